"""What timed pairs tell, on pairs that are made up."""

from __future__ import annotations

import numpy as np
import pytest

from diffaccel.pairs import drift, outliers, timing_of


def pairs(ratios: list[float]) -> list[tuple[float, float]]:
    return [(ratio, 1.0) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "odd"),
    [
        ([2.0, 2.0, 2.0], []),
        ([2.0, 2.01, 1.4], [2]),
        ([2.0, 2.01, 2.8], [2]),
        ([3.1, 2.0, 2.01, 1.99, 1.2], [0, 4]),
        ([2.0, 2.001, 2.03], []),  # near enough, however well the others agree
        ([2.0, 4.0], []),  # which of the two?
        ([1.0, 1.3, 1.6, 1.9, 2.2], []),  # all of it is spread
    ],
)
def test_a_pair_far_from_the_others_does_not_count(ratios: list[float], odd: list[int]) -> None:
    timing = timing_of(pairs(ratios))
    assert timing.outliers == odd and timing.counted == len(ratios) - len(odd)
    kept = [ratio for index, ratio in enumerate(ratios) if index not in odd]
    assert timing.speedup == pytest.approx(np.median(kept))
    assert timing.baseline == ratios  # all are in the record


def test_one_slow_call_of_five_moves_nothing() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        ratios = list(2 * np.exp(random.normal(0, 0.02, 5)))
        struck = ratios.copy()
        struck[random.integers(5)] *= random.choice([0.3, 3.0])
        assert timing_of(pairs(struck)).speedup == pytest.approx(2, rel=0.06)
        assert len(timing_of(pairs(struck)).outliers) >= 1


def test_noise_alone_seldom_makes_outliers_or_drift() -> None:
    random = np.random.default_rng(1)
    logs = [random.normal(0, 0.02, 6) for _ in range(500)]
    assert np.mean([bool(outliers(each)) for each in logs]) < 0.2
    assert np.mean([drift(each) != 0 for each in logs]) < 0.05


def test_drift_is_what_goes_one_way() -> None:
    assert timing_of(pairs([1.0, 1.1, 1.21])).drift == pytest.approx(0.21)
    assert timing_of(pairs([1.21, 1.1, 1.0])).drift == pytest.approx(-0.21 / 1.21)
    assert timing_of(pairs([1.0, 1.1, 1.05])).drift == 0
    assert timing_of(pairs([1.0, 1.3])).drift == 0
    rising = [1.0, 1.05, 1.1, 1.09, 1.2, 1.25]  # one step back
    assert timing_of(pairs(rising)).drift == pytest.approx(0.25, abs=0.03)


def test_the_error_is_that_of_the_median() -> None:
    """Over many made-up timings, about as large as they are really off."""
    random = np.random.default_rng(2)
    timings = [timing_of(pairs(list(np.exp(random.normal(0, 0.02, 9))))) for _ in range(400)]
    off = np.sqrt(np.mean([np.log(timing.speedup) ** 2 for timing in timings]))
    assert np.median([timing.error for timing in timings]) == pytest.approx(off, rel=0.35)
