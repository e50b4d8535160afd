"""A run with several limits: what is chosen keeps all of them, from the search to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from diffaccel.evaluation.records import Baseline
from diffaccel.search.records import Search
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import read_record
from tests.workflow.conftest import Finished
from tests.workflow.test_rebuild import SEARCH, elsewhere


@pytest.mark.long
def test_what_was_measured_is_decided_anew_with_limits(finished: Finished, tmp_path: Path) -> None:
    """Nothing is evaluated again: the scores tell what is used of a limit."""
    before = read_record(Search, finished[0].results / SEARCH)
    free = before.cells[0].bound
    assert free is not None
    least = round(free.means["psnr"] + 1, 1)  # which the fastest does not keep
    tasks, more = tmp_path / "tasks.txt", least + 2
    tasks.write_text(
        "Generate a mini-SD1.5 pipeline using the DDIM sampler with 8 steps, accelerated by "
        f"DeepCache with PSNR not below {more:g} and precision loss not exceeding 0.4\n"
    )
    limits = {"psnr": f"at least {least:g}"}
    project = elsewhere(finished, tmp_path / "p", limits=limits, tasks_file=str(tasks))
    known = set(project.journal_lines("evaluations"))
    project.run()
    assert known <= set(project.journal_lines("evaluations"))

    found = read_record(Search, project.results / SEARCH)
    words = f"psnr at least {least:g}"
    own = found.answer("user-001")
    assert own is not None and own.chosen is not None and own.chosen.means["psnr"] > more
    source = (project.results / "code/user-001.py").read_text(encoding="utf-8")
    assert f"Limits: psnr at least {more:g}: measured {own.chosen.means['psnr']:.4g}" in source
    others = [each.chosen for each in found.answers if each.task.limits is None]
    chosen = [cell.bound for cell in found.cells] + others
    assert all(row.means["psnr"] > least for row in chosen if row is not None)
    assert all(row.used[words][0] < 1 for row in chosen if row is not None)
    bound = found.cells[0].bound
    assert bound is None or bound.speedup < free.speedup
    verification = read_record(Verification, project.results / f"verify/{Path(SEARCH).name}")
    assert {each.id for each in verification.results} == {
        each.task.id for each in found.answers if each.status == "met"
    }
    summary = pd.read_csv(project.results / "summary.csv")
    met = summary[summary["status"] == "met"]
    usual, mine = met[met["id"] != "user-001"], met[met["id"] == "user-001"]
    assert set(usual["decided_by"]) <= {words, "loss below 50%"}
    assert set(usual["limits"]) <= {words} and set(mine["limits"]) == {f"psnr at least {more:g}"}
    page = (project.results / "report.html").read_text(encoding="utf-8")
    assert words in page
    stored = json.loads((project.results / "speedup_bounds.json").read_text())
    assert {each["measured_speedup"] for each in stored.values()} == {round(free.speedup, 4)}
    baseline = read_record(Baseline, project.results / f"baseline/{Path(SEARCH).name}")
    assert baseline.metrics is None, "the usual ones are enough"
