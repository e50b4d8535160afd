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
    project = elsewhere(finished, tmp_path / "p", limits={"psnr": f"at least {least:g}"})
    known = set(project.journal_lines("evaluations"))
    project.run()
    assert known <= set(project.journal_lines("evaluations"))

    found = read_record(Search, project.results / SEARCH)
    words = f"psnr at least {least:g}"
    chosen = [cell.bound for cell in found.cells] + [each.chosen for each in found.answers]
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
    assert set(met["decided_by"]) <= {words, "loss below 50%"}
    page = (project.results / "report.html").read_text(encoding="utf-8")
    assert words in page
    stored = json.loads((project.results / "speedup_bounds.json").read_text())
    assert {each["measured_speedup"] for each in stored.values()} == {round(free.speedup, 4)}
    baseline = read_record(Baseline, project.results / f"baseline/{Path(SEARCH).name}")
    assert baseline.metrics is None, "the usual ones are enough"
