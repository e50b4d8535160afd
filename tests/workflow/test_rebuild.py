"""What is missing is rebuilt, what was measured is kept, whatever happened in between."""

from __future__ import annotations

import json
import os
import signal
import time

from diffaccel.jsonio import read_record
from diffaccel.records import Search
from tests.workflow.conftest import Project

CELL = "mini-SD1.5_DDIM_8_deepcache"
SEARCH = "search/mini-SD1.5_DDIM_8.json"


def test_only_what_a_script_needs_is_planned(project: Project) -> None:
    output = project.run("--dry-run", "--quiet", "reason", "--", f"results/cpu/code/{CELL}_1.1x.py")
    counted = [line.split() for line in output.splitlines() if line.endswith(" 1")]
    assert sorted({job for job, _ in counted}) == ["baseline", "code", "model", "search"]


def test_a_deleted_result_is_rebuilt_without_measuring(project: Project) -> None:
    project.configure(rival="fewer steps")
    project.run()
    before = project.journal_lines()
    found, bounds = project.results / SEARCH, project.results / "speedup_bounds.json"
    first, gathered = read_record(Search, found), bounds.stat().st_mtime_ns
    found.unlink()
    project.run()
    assert project.journal_lines() == before
    again = read_record(Search, found)
    assert again.answers == first.answers
    assert [(cell.bound, cell.front) for cell in again.cells] == [
        (cell.bound, cell.front) for cell in first.cells
    ]
    assert again.rival is not None and again.rival == first.rival
    assert bounds.stat().st_mtime_ns > gathered  # what depends on it is made again


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
    rows = project.journal_lines("drawn")
    assert rows[: len(kept)] == kept
    settings = [json.dumps(json.loads(row)["measurement"]["setting"]) for row in rows]
    assert len(set(settings[: len(kept)])) == len(kept)
    assert read_record(Search, project.folder / target).cells[0].measured == len(set(settings))


def _wait_for_rows(project: Project, count: int, process: object) -> list[str]:
    deadline = time.perf_counter() + 300
    while time.perf_counter() < deadline:
        rows = project.journal_lines("drawn")
        if len(rows) >= count:
            return rows
        assert process.poll() is None, process.communicate()[0]  # type: ignore[attr-defined]
        time.sleep(0.05)
    raise AssertionError("nothing was measured in time")


def test_a_script_that_cannot_be_says_why(project: Project) -> None:
    name = f"{CELL}_50.0x"
    output = project.run(f"results/cpu/code/{name}.py", ok=False)
    assert f"task {name} has no script: infeasible: 50.0x is above the bound" in output
