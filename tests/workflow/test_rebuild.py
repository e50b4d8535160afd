"""What is missing is rebuilt, what was measured is kept, whatever happened in between."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from diffaccel.jsonio import read_record
from diffaccel.records import Search
from tests.workflow.conftest import Finished, Project, again

CELL = "mini-SD1.5_DDIM_8_deepcache"
SEARCH = "search/mini-SD1.5_DDIM_8.json"


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
    assert rebuilt.rival is not None and rebuilt.rival == first.rival
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


def test_a_script_that_cannot_be_says_why(finished: Finished, tmp_path: Path) -> None:
    project, name = again(finished, tmp_path / "p"), f"{CELL}_50.0x"
    output = project.run(f"results/cpu/code/{name}.py", ok=False)
    assert f"task {name} has no script: infeasible: 50.0x is above the bound" in output
