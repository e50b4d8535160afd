"""What is said of readings of the baseline pipeline beside itself."""

from __future__ import annotations

import numpy as np
import pytest

from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import SpeedRow
from diffaccel.evaluation.selftest import Readings
from diffaccel.experiment.grid import Configuration


def readings(noise: float, count: int, *, pairs: int = 4, bias: float = 0.0) -> Readings:
    """Of a timing whose pairs are off by so much, with that standard deviation."""
    random = np.random.default_rng(0)
    rows = [
        SpeedRow({}, timing_of([(each, 1.0) for each in np.exp(logs)]), None, 1.0, "")
        for logs in random.normal(bias, noise, (count, pairs))
    ]
    return Readings(Configuration("m", "DDIM", 20), "here", 0.01, rows)


def test_so_many_pairs_as_it_says_are_enough() -> None:
    """And half as many are not: readings of the first are within what is allowed 19 times in 20."""
    needed = readings(0.03, 400).needed
    within = [
        np.mean([abs(each.speedup - 1) <= 0.01 for each in readings(0.03, 400, pairs=n).timings])
        for n in (needed, needed // 2)
    ]
    assert within[1] < 0.91 < 0.93 < within[0] < 0.98


@pytest.mark.parametrize(("noise", "bias", "ok"), [(0.001, 0.0, True), (0.001, 0.02, False)])
def test_what_is_off_is_not_trusted(noise: float, bias: float, ok: bool) -> None:
    found = readings(noise, 3, bias=bias)
    assert found.ok is ok and found.lines()[-1].endswith("can be trusted") is ok
    assert f"all 12 pairs: {found.together.speedup:.4f}x" in found.lines()[-2]


def test_a_noisy_clock_says_how_many_pairs_it_takes() -> None:
    found = readings(0.05, 5)
    assert not found.ok and found.needed > 50 and f"takes {found.needed} " in found.lines()[-2]
