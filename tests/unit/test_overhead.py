"""The benchmark of what the workflow itself costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.overhead import covered, measured


@pytest.mark.parametrize(
    ("spans", "length"),
    [
        ([], 0),
        ([(1, 3), (5, 6)], 3),
        ([(5, 6), (1, 3), (2, 4)], 4),
        ([(1, 9), (2, 3), (4, 5)], 8),
    ],
)
def test_time_that_jobs_share_counts_once(spans: list[tuple[float, float]], length: float) -> None:
    assert covered(spans) == length


def test_a_job_with_two_outputs_is_one_and_only_those_that_measure_count(tmp_path: Path) -> None:
    rows = [
        {"rule": "baseline", "log": ["a.log"], "starttime": 1.0, "endtime": 4.0},
        {"rule": "baseline", "log": ["a.log"], "starttime": 1.0, "endtime": 5.0},
        {"rule": "search", "log": ["b.log"], "starttime": 6.0, "endtime": 7.0},
        {"rule": "code", "log": ["c.log"], "starttime": 0.0, "endtime": 9.0},
    ]
    for number, row in enumerate(rows):
        path = tmp_path / ".snakemake" / "metadata" / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row))
    assert sorted(measured(tmp_path)) == [(1.0, 5.0), (6.0, 7.0)]
