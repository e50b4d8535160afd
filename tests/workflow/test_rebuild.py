"""What is missing is rebuilt, what was measured is kept, whatever happened in between."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.config import read
from diffaccel.experiment.plan import Experiment
from diffaccel.search.records import Search
from diffaccel.store.jsonio import read_record, write_record
from tests.workflow.conftest import ROOT, Finished, Project, again

CELL = "mini-SD1.5_DDIM_8_deepcache"
SEARCH = "search/mini-SD1.5_DDIM_8.json"


@pytest.mark.long
def test_only_what_a_script_needs_is_planned(project: Project) -> None:
    output = project.run("--dry-run", "--quiet", "reason", "--", f"results/cpu/code/{CELL}_1.1x.py")
    counted = [line.split() for line in output.splitlines() if line.endswith(" 1")]
    assert sorted({job for job, _ in counted}) == ["baseline", "code", "model", "search"]


def test_a_deleted_result_is_rebuilt_without_measuring(finished: Finished, tmp_path: Path) -> None:
    first = read_record(Search, finished[0].results / SEARCH)
    project = again(finished, tmp_path / "p", SEARCH)
    found, bounds = project.results / SEARCH, project.results / "speedup_bounds.json"
    before, gathered = project.journal_lines(), bounds.stat().st_mtime_ns
    project.run()
    assert project.journal_lines() == before
    rebuilt = read_record(Search, found)
    assert rebuilt.answers == first.answers
    assert [(cell.bound, cell.front) for cell in rebuilt.cells] == [
        (cell.bound, cell.front) for cell in first.cells
    ]
    assert rebuilt.fewer_steps is not None and rebuilt.fewer_steps == first.fewer_steps
    assert bounds.stat().st_mtime_ns > gathered  # what depends on it is made again


TABLES = ("results/cpu/speedup_bounds.json", "results/cpu/search_params.json")
QUICK: dict[str, Any] = {
    "steps": [3],
    "speedups": [],
    "loss_limit": 0.9,
    "measure": {"prompts": 3, "max_prompts": 4, "pairs": 1, "max_pairs": 1},
}


@pytest.mark.long
def test_what_was_measured_and_found_is_there_when_one_comes_back(project: Project) -> None:
    def run(**changes: Any) -> tuple[list[str], list[dict[str, Any]]]:
        project.configure(**{**QUICK, **changes})
        project.run(*TABLES)
        return project.journal_lines(), [
            json.loads((project.folder / name).read_text()) for name in TABLES
        ]

    def at(batch: int) -> tuple[Any, list[Any]]:
        """What stands under DeepCache's bound, and beside it: sizes of batches."""
        (entry,) = (value for key, value in tables[0].items() if "['deepcache']" in key)
        found = [each["measured_with"]["batch_size"] for each in (entry, *entry["others"])]
        assert found[0] == batch
        return entry, found

    both, baseline = ["DeepCache", "ToMe"], project.results / "baseline/mini-SD1.5_DDIM_3.json"
    rows, before = run(accelerators=both)
    assert len(before[0]) == 2
    seconds = read_record(Baseline, baseline).seconds

    # Fewer accelerators, and another batch.
    _, tables = run(models=[{"name": "mini-SD1.5", "batch_size": 4}])
    assert at(4)[1] == [4, 2]
    for old, new in zip(before, tables, strict=True):
        assert old.keys() <= new.keys()

    # And back, even if more surely: nothing is measured, and nothing was lost.
    rows = project.journal_lines()
    more = {**QUICK["measure"], "max_pairs": 2, "spread": 0.5, "confidence": 0.5}
    after, tables = run(accelerators=both, measure=more)
    assert after == rows and read_record(Baseline, baseline).seconds == seconds
    assert at(2)[1] == [2, 4]
    for old, new in zip(before, tables, strict=True):
        assert old.keys() <= new.keys()
        for key, value in old.items():
            assert new[key]["params"] == value["params"]

    # Deleted tables are made again whole, whatever is asked for by then.
    for name in TABLES:
        (project.folder / name).unlink()
    assert run(accelerators=["ToMe"], measure=more)[1] == tables


@pytest.mark.long
def test_a_link_to_other_weights_is_another_model(project: Project) -> None:
    models = project.folder.parent / "models"
    for name in ("one", "two"):
        shutil.copytree(ROOT / "resources/models/mini-SD1.5/unet", models / name / "unet")
    mine = models / "mine"
    shutil.copytree(ROOT / "resources/models/mini-SD1.5", mine)
    shutil.rmtree(mine / "unet")
    (mine / "unet").symlink_to("../one/unet")
    target = "results/cpu/baseline/mine_DDIM_3.json"
    base = {"name": "mine", "family": "SD1.5", "source": str(mine), "batch_size": 2}
    base |= {"scorer": "resources/models/mini-clip", "prompts": "resources/prompts/mini.txt"}
    project.configure(**{**QUICK, "models": [base | {"height": 128, "width": 128}]})
    project.run(target)
    assert "Nothing to be done" in project.run(target)
    before = read_record(Baseline, project.folder / target)
    weights = next((models / "two/unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    os.utime(weights, (0, 0))
    (mine / "unet").unlink()
    (mine / "unet").symlink_to("../two/unet")
    project.run(target)
    assert read_record(Baseline, project.folder / target).digest != before.digest


@pytest.mark.long
def test_scripts_of_tasks_that_are_not_met_any_more_are_removed(
    finished: Finished, tmp_path: Path
) -> None:
    project = again(finished, tmp_path / "p", "tasks/tasks.json")
    (project.results / "code/user-099.py").write_text("print()\n")
    scripts = {path.name for path in (project.results / "code").glob("*.py")}
    project.run("results/cpu/tasks/tasks.json")
    left = {path.name for path in (project.results / "code").glob("*.py")}
    assert scripts - left == {"user-099.py"}


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_was(project: Project) -> None:
    target = f"results/cpu/{SEARCH}"
    process = project.start(target)
    try:
        kept = _wait_for_rows(project, 2, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (project.folder / target).exists()
    project.run(target)
    rows = project.journal_lines("evaluations")
    assert rows[: len(kept)] == kept
    candidates = [json.dumps(json.loads(row)["measurement"]["parameters"]) for row in rows]
    assert len(set(candidates[: len(kept)])) == len(kept)
    assert read_record(Search, project.folder / target).cells[0].measured == len(set(candidates))


def _wait_for_rows(project: Project, count: int, process: object) -> list[str]:
    deadline = time.perf_counter() + 300
    while time.perf_counter() < deadline:
        rows = project.journal_lines("evaluations")
        if len(rows) >= count:
            return rows
        assert process.poll() is None, process.communicate()[0]  # type: ignore[attr-defined]
        time.sleep(0.05)
    raise AssertionError("nothing was measured in time")


@pytest.mark.long
def test_a_script_that_cannot_be_says_why(finished: Finished, tmp_path: Path) -> None:
    project, name = again(finished, tmp_path / "p"), f"{CELL}_50.0x"
    output = project.run(f"results/cpu/code/{name}.py", ok=False)
    assert f"task {name} has no script: infeasible: 50.0x is above the bound" in output


def elsewhere(finished: Finished, folder: Path, **changes: Any) -> Project:
    """The results alone, brought to another folder with another experiment: what snakemake noted of
    them stays behind."""
    shutil.copytree(finished[0].folder, folder, symlinks=True)
    shutil.rmtree(folder / ".snakemake")
    project = Project(folder)
    shipped = yaml.safe_load((finished[0].folder / "config.yaml").read_text())
    project.configure(**shipped | changes)
    return project


@pytest.mark.long
def test_results_of_another_limit_are_not_up_to_date(finished: Finished, tmp_path: Path) -> None:
    """A record says what it was made for. Nothing is measured again that was."""
    unchanged = elsewhere(finished, tmp_path / "same")
    assert "Nothing to be done" in unchanged.run("results/cpu/" + SEARCH)
    project = elsewhere(finished, tmp_path / "p", loss_limit=0.3)
    evaluated = set(project.journal_lines("evaluations"))
    project.run("results/cpu/speedup_bounds.json")
    assert evaluated <= set(project.journal_lines("evaluations"))
    assert read_record(Search, project.results / SEARCH).cells[0].loss_limit == 0.3
    stored = json.loads((project.results / "speedup_bounds.json").read_text())
    assert {key.split(", ")[4] for key in stored} == {"0.3", "0.5"}, "what was found stays"


@pytest.mark.long
def test_results_of_other_accelerators_are_searched(finished: Finished, tmp_path: Path) -> None:
    project = elsewhere(finished, tmp_path / "p", accelerators=["ToMe"], tasks_file=None)
    project.run("results/cpu/tasks/tasks.json")
    (cell,) = read_record(Search, project.results / SEARCH).cells
    assert cell.cell.accelerators == ("tome",)


@pytest.mark.long
def test_a_step_count_more_measures_nothing_again(finished: Finished, tmp_path: Path) -> None:
    project = again(finished, tmp_path / "p")
    shipped = yaml.safe_load((project.folder / "config.yaml").read_text())
    project.configure(**shipped | {"steps": [*shipped["steps"], 9]})
    output = project.run("--dry-run", "--quiet", "reason")
    counted = dict(line.split() for line in output.splitlines() if re.fullmatch(r"\w+ +\d+", line))
    asked = {name: counted.get(name) for name in ("model", "baseline", "search")}
    assert asked == {"model": None, "baseline": "1", "search": "1"}


@pytest.mark.long
def test_a_model_of_another_folder_is_loaded(finished: Finished, tmp_path: Path) -> None:
    own = {"name": "mini-SD1.5", "source": str(tmp_path / "mine")}
    (tmp_path / "mine").symlink_to(ROOT / "resources/models/mini-SD1.5")
    project = elsewhere(finished, tmp_path / "p", models=[own])
    project.run("results/cpu/models/mini-SD1.5.json")
    made = json.loads((project.results / "models/mini-SD1.5.json").read_text())
    assert made["source"] == own["source"]


@pytest.mark.long
def test_what_may_have_passed_is_tried_again_by_the_next_run(
    finished: Finished, tmp_path: Path
) -> None:
    """A search that tells of a failure that may pass is made again, though nothing else changed."""
    project = again(finished, tmp_path / "p")
    path = project.results / SEARCH
    found = read_record(Search, path)
    failed = replace(found, cells=[replace(each, passing=1) for each in found.cells])
    job = Experiment(read(project.folder / "config.yaml")).search_job("mini-SD1.5_DDIM_8")
    write_record(path, failed, job)
    project.run(f"results/cpu/{SEARCH}")
    assert read_record(Search, path).passing == 0
