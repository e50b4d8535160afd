"""Step counts compared: one baseline pipeline that all are measured against."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.recipes.known import Known
from diffaccel.report.page import charts
from diffaccel.report.page.steps import PLAIN, compared
from tests import store

CACHE = ("deepcache",)


def scored(steps: int, score: float, speedup: float, mean: float) -> Measurement:
    """A candidate whose images score ``mean``, beside a baseline pipeline's ``score``."""
    row = store.measurement(store.deepcache(2), speedup, (score - mean) / score)
    timing = timing_of([(steps / 10, steps / 10 / speedup)] * 3)
    return dataclasses.replace(row, timing=timing, scores={"clip_score": [mean, mean, mean, mean]})


def known(tmp_path: Path, steps: int, score: float, mean: float, **changes: object) -> Known:
    configuration = Configuration("mini-SD1.5", "DDIM", steps)
    store.write(tmp_path, configuration, {CACHE: [scored(steps, score, 2.0, mean)]})
    found = Known.read(tmp_path / "cpu", configuration)
    count = len(found.baseline.prompts)
    baseline = dataclasses.replace(
        found.baseline, scores={"clip_score": [score] * count}, seconds=[steps / 10], **changes
    )
    return dataclasses.replace(found, baseline=baseline)


def test_all_losses_are_beside_the_most_steps(tmp_path: Path) -> None:
    """Accelerated 20 steps lose nothing beside the plain 20, and 5% beside the plain 50."""
    few, many = known(tmp_path, 20, 76.0, 76.0), known(tmp_path, 50, 80.0, 79.2)
    (view,) = compared([few, many])
    assert (view.model, view.scheduler, view.reference) == ("mini-SD1.5", "DDIM", 50)
    images = few.baseline.images_per_call
    losses = {
        (point.series, point.steps): (point.loss, round(point.seconds * images, 9))
        for point in view.points
    }
    assert losses == {
        (PLAIN, 20): (pytest.approx(0.05), 2.0),
        ("DeepCache", 20): (pytest.approx(0.05), 1.0),
        (PLAIN, 50): (0.0, 5.0),
        ("DeepCache", 50): (pytest.approx(0.01), 2.5),
    }
    assert all(point.low <= point.loss <= point.high for point in view.points)


def test_what_has_other_prompts_is_not_compared(tmp_path: Path) -> None:
    few, many = known(tmp_path, 20, 76.0, 76.0), known(tmp_path, 50, 80.0, 79.2)
    other = dataclasses.replace(few, baseline=dataclasses.replace(few.baseline, prompts=["x"] * 4))
    assert list(compared([other, many])) == []
    assert list(compared([many])) == [], "one step count is nothing to compare"


def test_what_nobody_would_use_is_not_evaluated(tmp_path: Path) -> None:
    few, many = known(tmp_path, 20, 76.0, 40.0), known(tmp_path, 50, 80.0, 79.2)
    (view,) = compared([few, many])
    rows = charts.steps_data(view)
    assert len(view.points) == 4 and len(rows) == 3
    labels = {row["label"] for row in rows}
    assert labels == {"20", "50", ""}
    assert "DeepCache, 50 steps, cache_branch_id=0 cache_interval=2" in " ".join(
        row["words"] for row in rows
    )
