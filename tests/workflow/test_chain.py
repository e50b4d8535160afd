"""The whole chain on the embedded model, through snakemake: what it makes, in which formats."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.gpu.data import read_grid
from benchmarks.gpu.page import page
from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import Baseline
from diffaccel.plugins.metrics import METRICS
from diffaccel.report.blind import answers_in
from diffaccel.report.blind.generating import generate, lacking
from diffaccel.search.estimates import MOST_TIMINGS
from diffaccel.search.records import Answer, CellResult, Search
from diffaccel.stages import verify
from diffaccel.stages.outcome import result_of
from diffaccel.stages.records import ScriptResult, Served, Verification, VerifiedScript
from diffaccel.stages.script import Script, load_script
from diffaccel.stages.serving import Serving
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest, read_record
from tests.workflow.conftest import ROOT, Finished, Project, again
from tests.workflow.test_speed import bench

CELL = "mini-SD1.5_DDIM_8_deepcache"
CONFIGURATION = "mini-SD1.5_DDIM_8"


def searched(results: Path) -> Search:
    return read_record(Search, results / "search" / f"{CONFIGURATION}.json")


def frontier_of(results: Path) -> CellResult:
    return next(known for known in searched(results).cells if known.cell.slug == CELL)


def test_bounds_have_the_contracts_format(finished: Finished) -> None:
    stored = json.loads((finished[0].results / "speedup_bounds.json").read_text())
    key = "('mini-SD1.5', 'DDIMScheduler', '8', 'upbound_speedup', 0.5, ['deepcache'])"
    assert list(stored) == [key]
    entry = stored[key]
    assert entry["max_speedup"] == round(entry["measured_speedup"] * 1.1, 2)
    assert set(entry["params"]["deepcache"]) == {"cache_interval", "cache_branch_id"}


def test_parameters_are_stored_under_the_measured_speedup(finished: Finished) -> None:
    stored = json.loads((finished[0].results / "search_params.json").read_text())
    assert stored
    for key, entry in stored.items():
        model, scheduler, steps, speedup, limit, accelerators = ast.literal_eval(key)
        assert (model, scheduler, steps) == ("mini-SD1.5", "DDIMScheduler", "8")
        assert accelerators == ["deepcache"] and limit in (0.4, 0.5)
        assert float(speedup) == round(entry["speedup"], 2)
        assert entry["score_loss"] < limit


def test_tasks_are_shares_of_the_bound_and_the_users(finished: Finished) -> None:
    results = finished[0].results
    bound = frontier_of(results).bound
    assert bound is not None
    listed = json.loads((results / "tasks" / "tasks.json").read_text())["tasks"]
    made = {task["id"]: task for task in listed}
    limit = round(bound.speedup * 1.1, 2)
    for share in (0.8, 0.9, 0.95):
        task = made[f"{CELL}_bound{share * 100:.0f}"]
        assert task["required"] == round(share * limit, 2)
        assert (
            f"{task['required']}x speedup and precision loss not exceeding 0.5" in task["sentence"]
        )
    assert made["user-001"]["required"] == 1.1
    assert "MagicCache" in made["user-003"]["problem"]


def test_each_kind_of_answer(finished: Finished) -> None:
    results = finished[0].results

    def answer(name: str) -> Answer:
        found = searched(results).answer(name)
        assert found is not None
        return found

    for name in ("user-001", "user-004", "user-005"):
        assert answer(name).status == "met"
    bound = frontier_of(results).bound
    assert bound is not None and answer("user-004").chosen == bound
    too_fast = answer("user-002")
    assert too_fast.status == "infeasible" and "above the bound" in too_fast.reason
    assert too_fast.nearest is not None
    misunderstood = read_record(Search, results / "search" / "misunderstood.json").answers
    assert [(each.task.id, each.status) for each in misunderstood] == [("user-003", "unparsed")]
    assert answer(f"{CELL}_1.1x").status == "met"
    assert answer(f"{CELL}_50.0x").status == "infeasible"


def test_each_task_that_is_met_has_its_script_and_its_verdict(finished: Finished) -> None:
    """Targets, too: what was asked for is what comes out."""
    results = finished[0].results
    met = {each.task.id: each for each in searched(results).answers if each.status == "met"}
    assert {each.task.origin for each in met.values()} == {"target", "bound", "user"}
    assert {path.stem for path in results.glob("code/*.py")} == met.keys()
    found = read_record(Verification, results / f"verify/{CONFIGURATION}.json").results
    assert {result.id for result in found} == met.keys()
    for result in found:
        chosen = met[result.id].chosen
        assert chosen is not None and result.reported_speedup == chosen.speedup
        assert chosen.speedup >= result.required
        # The same images as in the search: the script does exactly what was measured.
        assert result.same_scores
        assert result.loss == result.reported_loss < result.max_loss
        assert ({result.outcome, result.kept} == {"met"}) == (result.reason == "")
        assert result.timing is not None and len(result.timing.baseline) in (2, 4)
        if result.outcome == "undecided":
            assert len(result.timing.baseline) == 4 and "after 4 pairs" in result.reason


def test_a_latency_is_verified_by_seconds(finished: Finished) -> None:
    found = read_record(
        Verification, finished[0].results / "verify" / f"{CONFIGURATION}.json"
    ).results
    result = next(each for each in found if each.id == "user-005")
    assert result.outcome == "met" and result.max_seconds_per_image == 100
    assert result.seconds_per_image is not None and result.seconds_per_image < 100


def test_scripts_are_verified_on_prompts_that_the_search_never_saw(finished: Finished) -> None:
    project, output = finished
    verification = read_record(Verification, project.results / "verify" / f"{CONFIGURATION}.json")
    baseline = read_record(Baseline, project.results / "baseline" / f"{CONFIGURATION}.json")
    own = (ROOT / "resources/prompts/mini-heldout.txt").read_text().splitlines()
    assert verification.heldout == own[:3] and not set(verification.heldout) & set(baseline.prompts)
    for result in verification.results:
        held = result.heldout
        assert held is not None and len(held.scores["clip_score"]) == 3
        assert held.loss != result.loss and held.ok == (held.loss < result.max_loss)
    holding = sum(result.heldout.ok for result in verification.results if result.heldout)
    assert f"Held out: {holding} of {len(verification.results)} within the limit" in output
    table = pd.read_csv(project.results / "summary.csv").set_index("id")
    held = verification.results[0].heldout
    assert held is not None
    assert table.loc[verification.results[0].id, "heldout_loss"] == pytest.approx(
        held.loss, abs=1e-4
    )


def test_the_held_out_loss_is_that_of_the_script_beside_the_plain_pipeline(
    finished: Finished,
) -> None:
    """Drawn again here, script and baseline pipeline alike, with the seeds after the search's."""
    project = finished[0]
    verification = read_record(Verification, project.results / "verify" / f"{CONFIGURATION}.json")
    baseline = read_record(Baseline, project.results / "baseline" / f"{CONFIGURATION}.json")
    result = verification.results[0]
    script = load_script(project.results / "code" / f"{result.id}.py")
    pipe = script.load_pipeline(str(ROOT / "resources/models/mini-SD1.5"), "cpu")
    seeds = [baseline.options.seed + len(baseline.prompts) + number for number in range(3)]
    arguments = {
        "num_inference_steps": 8,
        "guidance_scale": script.GUIDANCE_SCALE,
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
    }
    plain = pipe(verification.heldout, **arguments).images
    accelerated = script.generate(pipe, verification.heldout, seeds)
    score = METRICS["clip_score"].prepare(str(ROOT / "resources/models/mini-clip"), "cpu")
    before, after = (
        np.mean(
            score(np.stack([np.asarray(image) for image in images]), verification.heldout, None)
        )
        for images in (plain, accelerated)
    )
    assert result.heldout is not None
    assert result.heldout.loss == pytest.approx((before - after) / before, abs=1e-4)


def test_a_script_runs_on_its_own(finished: Finished, tmp_path: Path) -> None:
    project = finished[0]
    script = project.results / "code" / f"{CELL}_bound80.py"
    out = tmp_path / "image.png"
    command = [sys.executable, "-I", str(script), "--prompt", "a red circle", "--out", str(out)]
    subprocess.run(command, check=True, cwd=project.folder, capture_output=True)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_records_hold_what_identifies_them(finished: Finished) -> None:
    results = finished[0].results
    baseline = read_record(Baseline, results / "baseline" / "mini-SD1.5_DDIM_8.json")
    assert {"model", "scorer", "prompts", "environment"} <= set(baseline.fingerprint)
    assert {"torch", "diffusers", "DeepCache"} <= set(baseline.environment.versions)
    assert len(list((results / "baseline" / "mini-SD1.5_DDIM_8").glob("*.png"))) == 4
    known = frontier_of(results)
    assert known.bound is not None and known.baseline == baseline.whole
    assert len(known.bound.scores["clip_score"]) == 4
    assert {"clip_score", "ssim", "psnr"} == set(known.bound.means)
    evaluated, timed = (candidates(finished[0], kind) for kind in ("evaluations", "timed"))
    fewer_steps = searched(results).fewer_steps
    assert fewer_steps is not None
    assert len(set(evaluated)) == len(evaluated) == known.measured + fewer_steps.measured
    # Some are timed first, and not worth evaluating then.
    assert len(set(timed)) == known.timed + fewer_steps.timed
    # How often an answer is timed again hangs being timed, but the bound is.
    assert timed.count(json.dumps(known.bound.parameters, sort_keys=True)) >= 2
    assert max(Counter(timed).values()) <= MOST_TIMINGS


def test_the_fewer_steps_stands_beside_what_was_chosen(finished: Finished) -> None:
    """At the same speed at least, and it makes no task, no script and no entry of a store."""
    project, output = finished
    found = searched(project.results)
    assert found.fewer_steps is not None and found.fewer_steps.cell.accelerators == ("fewer_steps",)
    known = frontier_of(project.results)
    pairs = [
        (known.bound, known.fewer_steps),
        *((a.chosen, a.fewer_steps) for a in found.answers if a.chosen),
    ]
    for chosen, fewer_steps in pairs:
        assert chosen is not None
        if fewer_steps is None:  # one step is not as fast
            assert chosen.speedup > 3
            continue
        assert fewer_steps.speedup >= chosen.speedup and set(fewer_steps.parameters) == {
            "fewer_steps"
        }
        assert fewer_steps.beats == (fewer_steps.loss < chosen.loss) and (
            fewer_steps.timed or not fewer_steps.beats
        )
    assert [answer for answer in found.answers if "fewer" in answer.task.id] == []
    made = [*project.results.glob("*.json"), *project.results.glob("tasks/**/[!.]*.*")]
    named = [path.name for path in made if re.search(r"fewer_steps[\"']?\s*\]", path.read_text())]
    assert len(made) == 3 and not named, "no cell of its own"
    table = pd.read_csv(project.results / "summary.csv").set_index("id")
    row = table.loc[f"{CELL}_1.1x"]
    assert row["fewer_steps_parameters"].startswith("fewer_steps.steps=")
    assert row["fewer_steps_speedup"] >= row["speedup"]
    assert bool(row["beaten"]) == (row["fewer_steps_loss"] < row["loss"])
    assert "The column `fewer steps` has the loss of fewer steps alone" in output


def candidates(project: Project, kind: str) -> list[str]:
    """Of all journal lines of a kind."""
    rows = [json.loads(line)["measurement"] for line in project.journal_lines(kind)]
    return [json.dumps(row.get("row", row)["parameters"], sort_keys=True) for row in rows]


def test_a_script_that_cannot_be_loaded_fails_alone(finished: Finished, tmp_path: Path) -> None:
    """Its verdict says why; what is measured beside it is not touched."""
    project = finished[0]
    good = project.results / "code" / "user-001.py"
    broken = tmp_path / f"{CELL}_bound80.py"
    source = (project.results / "code" / broken.name).read_text()
    line = "def load_pipeline("
    assert line in source
    broken.write_text(source.replace(line, "raise OSError('no such disk')\n" + line))
    verification = verify.run(
        searched(project.results),
        read_record(Baseline, project.results / "baseline" / f"{CONFIGURATION}.json"),
        (project.results / "baseline" / CONFIGURATION).absolute(),
        [broken, good],
        tmp_path / "journal.jsonl",
        max_pairs=2,
    )
    first, second = verification.results
    assert first.outcome == "not met" and "OSError: no such disk" in first.reason
    assert second.same_scores


@pytest.mark.long
def test_an_undecided_script_is_measured_again_only_where_that_may_take_longer(
    finished: Finished, tmp_path: Path
) -> None:
    results, journal = finished[0].results, tmp_path / "journal.jsonl"
    found, plain = (
        searched(results),
        read_record(Baseline, results / f"baseline/{CONFIGURATION}.json"),
    )
    verification = read_record(Verification, results / f"verify/{CONFIGURATION}.json")
    asked = next(each for each in verification.results if each.max_seconds_per_image is None)
    path = results / f"code/{asked.id}.py"
    script = Script.read(path, found, plain, 2, [])
    # As fast as it must be in one pair, much faster in the other: who can tell?
    timing = timing_of([(asked.required * 0.9, 1.0), (asked.required * 1.5, 1.0)])
    known = Journal(
        results / f"journal/verify/{CONFIGURATION}.jsonl", plain.digest, VerifiedScript
    ).rows()[-1]
    row = replace(known.row, timing=timing, speedup=timing.speedup)
    before = VerifiedScript(script.digest, row)
    rows = Journal(journal, plain.digest, VerifiedScript)
    rows.append(before)

    def verified(max_pairs: int) -> ScriptResult:
        images = (results / "baseline" / CONFIGURATION).absolute()
        return verify.run(found, plain, images, [path], journal, max_pairs).results[0]

    assert verified(2).outcome == "undecided" and rows.rows() == [before]
    again = verified(4)
    assert again.timing is not None
    assert again.timing.pairs[:2] == timing.pairs and len(again.timing.pairs) > 2
    assert len(rows.rows()) == 2


@pytest.mark.long
def test_how_scripts_serve_is_measured_at_the_batch_sizes_asked_for(
    finished: Finished, tmp_path: Path
) -> None:
    project, _ = finished
    plain = read_record(Baseline, project.results / f"baseline/{CONFIGURATION}.json")
    verification = read_record(Verification, project.results / f"verify/{CONFIGURATION}.json")
    own = plain.images_per_call
    scripts = {result.script for result in verification.results}
    assert {(each.script, each.batch_size) for each in verification.served} == {
        (script, size) for script in scripts for size in (3, own)
    }
    for each in verification.served:
        timing, usage = each.row.timing, each.row.usage
        assert timing is not None and len(timing.pairs) >= 2 and usage is not None
        assert usage.host_bytes is not None and usage.host_bytes > 2**27
        assert usage.device_bytes is None and usage.joules is None
    table = pd.read_csv(project.results / "serving.csv")
    assert len(table) == 2 * (len(scripts) + 1)
    listed = [name for ids in table["ids"].dropna() for name in ids.split()]
    assert sorted(listed) == sorted(2 * [result.id for result in verification.results])
    summary = pd.read_csv(project.results / "summary.csv").set_index("id")
    for result in verification.results:
        assert summary.loc[result.id, "latency_p50"] > 0
    assert (summary["latency_p50"].isna() == (summary["status"] != "met")).all()

    # What is known with so many calls is not measured again, and more calls are.
    results, journal = project.results, tmp_path / "journal" / "verify" / f"{CONFIGURATION}.jsonl"
    shutil.copytree(results / "journal", tmp_path / "journal")
    path = next(results.glob(f"code/{CELL}_1.1x.py"))
    images = (results / "baseline" / CONFIGURATION).absolute()

    def served(*sizes: int, calls: int) -> list[int]:
        rows = Journal(tmp_path / f"journal/served/{CONFIGURATION}.jsonl", plain.digest, Served)
        before = len(rows.rows())
        unseen = read_record(Verification, results / f"verify/{CONFIGURATION}.json").heldout
        asked = Serving(sizes, calls)
        verify.run(searched(results), plain, images, [path], journal, 4, len(unseen), asked=asked)
        return [each.batch_size for each in rows.rows()[before:]]

    assert served(3, calls=2) == []
    assert served(3, 5, calls=2) == [5], "more than there are prompts"
    assert served(3, calls=3) == [3]


def test_scripts_of_the_same_parameters_share_what_is_measured(finished: Finished) -> None:
    """Each has its own verdict; what they do is the same, what they say of themselves is not."""
    results = finished[0].results
    found, plain = (
        searched(results),
        read_record(Baseline, results / f"baseline/{CONFIGURATION}.json"),
    )
    scripts = [
        Script.read(path, found, plain, 4, []) for path in sorted((results / "code").glob("*.py"))
    ]
    candidates = {digest(script.chosen.parameters) for script in scripts}
    assert len({script.digest for script in scripts}) == len(candidates) < len(scripts)
    assert len({script.path.read_text() for script in scripts}) == len(scripts)
    rows = Journal(
        results / f"journal/verify/{CONFIGURATION}.jsonl", plain.digest, VerifiedScript
    ).rows()
    assert {digest(each.row.parameters) for each in rows} == candidates
    for each in read_record(Verification, results / f"verify/{CONFIGURATION}.json").results:
        (timing,) = {str(row.row.timing) for row in rows if row.script == each.script}
        assert timing == str(each.timing)


def test_what_a_script_keeps_is_what_was_measured_of_it(finished: Finished) -> None:
    """Not the lower speedup that was asked for."""
    results = finished[0].results
    found, plain = (
        searched(results),
        read_record(Baseline, results / f"baseline/{CONFIGURATION}.json"),
    )
    path = next(results.glob(f"code/{CELL}_1.1x.py"))
    script = Script.read(path, found, plain, 4, [])
    chosen, asked = script.chosen, script.answer.task.required
    assert asked == 1.1 and script.reported.speedup == chosen.speedup
    # Speeds of our own: those of a machine may lie too near to each other to tell them apart.
    chosen, reported = replace(chosen, speedup=2.0), replace(script.reported, speedup=2.0)
    script = replace(script, chosen=chosen, reported=reported)
    timing = timing_of([(1.5, 1.0 + each / 1e4) for each in range(6)])
    known = VerifiedScript(script.digest, replace(chosen, timing=timing, speedup=timing.speedup))
    result = result_of(script, known, plain, found.cells[0].search)
    assert (result.outcome, result.kept) == ("met", "not met")
    assert "2.00x when it was found" in result.reason


def test_the_summary_lists_every_task(finished: Finished) -> None:
    project, output = finished
    table = pd.read_csv(project.results / "summary.csv")
    assert set(table["status"]) == {"met", "infeasible", "unparsed"}
    assert len(table) == 2 + 3 + 5
    found = read_record(Verification, project.results / "verify" / f"{CONFIGURATION}.json").results
    said = table.dropna(subset=["verified"]).set_index("id")["verified"].to_dict()
    assert said == {result.id: result.outcome for result in found}
    asked = sum(result.outcome == "met" for result in found)
    assert f"{len(found)} scripts verified: {asked} as fast as was asked" in output
    undecided = sum(result.outcome == "undecided" for result in found)
    assert not undecided or f"asked (for {undecided} the timings are too few to tell)" in output
    for result in found:
        assert (f"not as asked {result.id}: " in output) is (result.outcome == "not met")
    assert "MagicCache" in output and "60.0x is above the bound" in output


def test_the_report_has_the_images_of_the_frontier(finished: Finished) -> None:
    results = finished[0].results
    page = (results / "report.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (view,) = data["configurations"]
    summary = pd.read_csv(results / "summary.csv")
    assert [row[0] for row in data["table"]["rows"]] == list(summary["id"])
    assert set(data["scripts"]) == {path.stem for path in results.glob("code/*.py")}
    names = [series["name"] for series in view["series"]]
    assert names == ["DeepCache", "fewer steps"] and view["series"][1]["is_fewer_steps"]
    assert len(view["series"][0]["points"]) >= len(frontier_of(results).front)
    for point in (point for series in view["series"] for point in series["points"]):
        pictures = [data["pictures"][number] for number in point["images"]]
        assert len(pictures) == 4 and all(pictures), "a few images of each candidate are kept"
    plain = [data["pictures"][number] for number in view["baseline"]]
    assert len(set(plain)) == 4


def test_images_that_are_not_kept_are_generated_as_they_were(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = again(finished, tmp_path / "p")
    monkeypatch.chdir(project.folder)
    answers = answers_in(project.results)
    assert lacking(answers) == []
    fewer = next(each for each in answers if each.names == ("fewer_steps",))
    cached = next(each for each in answers if each.names == ("deepcache",))
    before = {path: path.read_bytes() for each in (fewer, cached) for path in each.kept.values()}
    for path in before:
        path.unlink()
    wanted = lacking(answers_in(project.results))
    assert [each.digest for each in wanted] == [cached.digest, fewer.digest]
    generate(wanted, project.results)
    assert {path: path.read_bytes() for path in before} == before


def test_the_images_of_answers_are_kept_and_the_worst_are_in_the_report(
    finished: Finished,
) -> None:
    """A verification keeps those of all prompts, where there are few."""
    results = finished[0].results
    answers = [each for each in answers_in(results) if each.names == ("deepcache",)]
    verified = read_record(Verification, results / f"verify/{CONFIGURATION}.json")
    chosen = {digest(a.chosen.parameters) for a in searched(results).answers if a.chosen}
    assert verified.results and chosen <= {each.digest for each in answers}
    for each in answers:
        assert [*each.kept] == [*range(each.row.prompts)]
    page = (results / "report.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (view,) = data["configurations"]
    worst = [point["worst"] for series in view["series"] for point in series["points"]]
    for metrics in filter(None, worst):
        assert metrics[0]["metric"] == "psnr"
        values = [pair["value"] for pair in metrics[0]["pairs"]]
        assert values == sorted(values) and metrics[0]["among"] is None
        assert all(data["worst"][pair["own"]] for each in metrics for pair in each["pairs"])
    assert any(worst)


@pytest.mark.long
def test_snakemakes_own_report_has_the_parts_by_category(
    finished: Finished, tmp_path: Path
) -> None:
    finished[0].run("--report", str(tmp_path / "report.zip"))
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = archive.namelist()
    for part in ("report.html", "summary.csv", "bounds.csv", "trust.csv", f"{CONFIGURATION}.svg"):
        assert any(name.endswith(f"/{part}") for name in names), part


@pytest.mark.long
def test_the_benchmark_of_a_grid_counts_what_there_is(finished: Finished, tmp_path: Path) -> None:
    project, kept = finished[0], tmp_path / "data"
    command = ["grid", "--cpu", "--experiment", "config.yaml", "--cores", "2"]
    done = bench(project.folder, *command, "--data", str(kept))
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_grid(kept / "cpu")
    assert record is not None
    met = [a.task.origin for a in searched(project.results).answers if a.status == "met"]
    assert (record.targets, record.met) == (2, met.count("target"))
    assert (record.tasks, record.scripts) == (3, met.count("bound"))
    known = frontier_of(project.results)
    assert known.bound is not None and record.measured == known.measured
    (row,) = record.bounds
    assert (row.model, row.accelerators, row.cells) == ("mini-SD1.5", "DeepCache", 1)
    assert row.bounds == [round(known.bound.speedup, 3)]
    assert record.failures == [] and record.share is None and record.seconds > 0
    spent = {stage.rule: stage for stage in record.stages}
    # The time of a job is that of its process, so it is more than what was measured in it.
    assert spent["search"].jobs == 1 and spent["search"].seconds > record.searching
    assert spent["code"].jobs == len(met)
    text = page(kept / "cpu")
    assert text is not None and f"| mini-SD1.5 | DeepCache | 1 | {row.bounds[0]:.2f}x" in text


@pytest.mark.long
def test_prompts_are_made_of_what_is_measured_and_nothing_is_measured_for_them(
    finished: Finished, project: Project
) -> None:
    folder = project.folder / "results" / "benchmark"

    def latencies() -> list[str]:
        listed = json.loads((folder / "gen_5_category.json").read_text())
        return [prompt["prompt_context"] for prompt in listed]

    assert "0 of category 5; it is made from measurements" in project.run("prompts")
    assert len(json.loads((folder / "anno_4_category.json").read_text())) == 1134
    assert not latencies() and not (project.results / "baseline").exists()
    assert "Nothing to be done" in project.run("prompts")
    for name in ("baseline", "search"):
        (project.results / name).mkdir()
        shutil.copy(finished[0].results / name / f"{CONFIGURATION}.json", project.results / name)
    assert "3 of category 5" in project.run("prompts")
    assert all("running on cpu in at most" in text for text in latencies())
    said = project.run("ground_truth")
    assert "27 made of category 1" in said and "1134 unmeasured of category 4" in said
    assert "3 made of category 5" in said and len(list(folder.glob("gt_code/*.py"))) == 30
    assert not (project.results / "models").exists()


def test_a_second_run_does_nothing(finished: Finished) -> None:
    assert "Nothing to be done: all results are there" in finished[0].run()
