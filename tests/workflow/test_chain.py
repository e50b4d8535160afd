"""The whole chain on the embedded model, through snakemake: what it makes, in which formats."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from diffaccel.jsonio import read_record
from diffaccel.records import Answer, Baseline, Frontier, Verdict
from tests.workflow.conftest import Project

CELL = "mini-SD1.5_DDIM_8_deepcache"
Finished = tuple[Project, str]


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
    bound = read_record(Frontier, results / "frontier" / f"{CELL}.json").bound
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
        return read_record(Answer, results / "answers" / f"{name}.json")

    assert answer("user-001").status == "met"
    too_fast = answer("user-002")
    assert too_fast.status == "infeasible" and "above the bound" in too_fast.reason
    assert too_fast.nearest is not None
    assert answer("user-003").status == "unparsed"
    assert answer(f"{CELL}_1.1x").status == "met"
    assert answer(f"{CELL}_50.0x").status == "infeasible"


def test_scripts_are_there_for_what_was_met_and_were_verified(finished: Finished) -> None:
    results = finished[0].results
    scripts = {path.stem for path in results.glob("code/*.py")}
    answers = [read_record(Answer, path) for path in results.glob("answers/*.json")]
    met = {a.task.id for a in answers if a.status == "met" and a.task.origin != "target"}
    assert scripts == met == {path.stem for path in results.glob("verify/*.json")}
    assert f"{CELL}_bound80" in scripts and "user-001" in scripts
    for name in scripts:
        verdict = read_record(Verdict, results / "verify" / f"{name}.json")
        # The same images as in the search: the script does exactly what was measured.
        assert verdict.same_scores
        assert verdict.loss == verdict.promised_loss < verdict.max_loss
        assert verdict.ok or "speedup" in verdict.reason


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
    assert {"model", "scorer", "prompts", "environment"} <= set(baseline.identity)
    assert {"torch", "diffusers", "DeepCache"} <= set(baseline.environment.versions)
    assert len(list((results / "baseline" / "mini-SD1.5_DDIM_8").glob("*.png"))) == 4
    known = read_record(Frontier, results / "frontier" / f"{CELL}.json")
    assert known.bound is not None and known.baseline == baseline.digest
    assert len(known.bound.scores["clip_score"]) == 4
    assert {"clip_score", "ssim", "psnr"} == set(known.bound.means)
    rows = [json.loads(line) for line in finished[0].journal_lines()]
    settings = [json.dumps(row["measurement"]["setting"], sort_keys=True) for row in rows]
    # Nothing is measured twice but the bound, which is confirmed, and what was it before.
    assert len(set(settings)) >= known.measured
    assert settings.count(json.dumps(known.bound.setting, sort_keys=True)) == 2
    assert len(settings) - len(set(settings)) <= 3


def test_the_summary_lists_every_task(finished: Finished) -> None:
    project, output = finished
    table = pd.read_csv(project.results / "summary.csv")
    assert set(table["status"]) == {"met", "infeasible", "unparsed"}
    assert len(table) == 2 + 3 + 3
    assert "MagicCache" in output and "60.0x is above the bound" in output


def test_a_second_run_does_nothing(finished: Finished) -> None:
    assert "Nothing to be done: all results are there" in finished[0].run()
