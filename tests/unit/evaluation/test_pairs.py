"""What timed pairs tell, on pairs that are made up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.timings import simulated
from diffaccel.evaluation.pairs import Goal, drift, outliers, timing_of, want_more
from diffaccel.evaluation.sequential import doubling
from diffaccel.experiment.options import MeasureOptions
from diffaccel.run.merging import contradict
from tests.turns import in_turns


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


@pytest.mark.parametrize(
    ("ratios", "thorough", "short"),
    [
        ([2.0, 2.0], True, True),  # too few
        ([2.0, 2.01, 2.02], False, False),
        ([2.0, 3.0, 4.0], True, False),  # they differ, and drift
        ([2.0, 2.01, 2.8], True, True),  # too few that count
        ([2.0, 3.0, 4.0, 5.0], False, False),  # there are no more
    ],
)
def test_a_short_timing_is_over_however_much_the_pairs_differ(
    ratios: list[float], thorough: bool, short: bool
) -> None:
    options = MeasureOptions(pairs=3, max_pairs=4, spread=0.03)
    assert want_more(pairs(ratios), options) is thorough
    assert want_more(pairs(ratios), options, short=True) is short


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


@pytest.mark.parametrize(("noise", "count"), in_turns([0.002, 0.03], [2, 3, 4, 6, 12, 24]))
def test_the_error_is_that_of_the_median(count: int, noise: float) -> None:
    """Over many made-up timings, as large on average as they are really off; and equal ones hardly
    ever contradict each other."""
    found = simulated(count, noise, 1000, seed=count)
    assert found.said == pytest.approx(found.off, rel=0.1)
    assert found.contradict < 0.01


def test_one_pair_says_nothing_of_its_error() -> None:
    one = timing_of(pairs([2.0]))
    assert one.error == math.inf
    assert not contradict(one, timing_of(pairs([4.0, 4.01, 3.99])))


def test_timings_that_differ_clearly_contradict_each_other() -> None:
    for count, apart in ((3, 1.3), (6, 1.1), (12, 1.05)):
        steady = [1 + 0.004 * (-1) ** n * (n % 3) for n in range(count)]
        one, other = timing_of(pairs(steady)), timing_of(pairs([apart * each for each in steady]))
        assert contradict(one, other) and not contradict(one, one)


GOAL = Goal(doubling(3, 6, 48), 0.95, speedup=2.0)


def session(truth: float, noise: float, rng: np.random.Generator) -> bool | None:
    """What is said of a script that must be twice as fast, after as many pairs as it takes."""
    taken: list[tuple[float, float]] = []
    while GOAL.wants_more(taken):
        plain, own = np.exp(rng.normal(0, noise, 2))
        taken.append((float(plain), float(own / truth)))
    return GOAL.reached(taken)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.06])
def test_a_noisy_clock_decides_nothing(noise: float) -> None:
    """It makes it take longer, and at worst is said to be noisy."""
    rng = np.random.default_rng(0)
    said = {truth: [session(truth, noise, rng) for _ in range(100)] for truth in (2.0, 1.9, 1.6)}
    assert said[2.0].count(False) <= 4 and said[2.0].count(True) >= 90
    assert said[1.6].count(True) == 0 and said[1.6].count(False) >= 95
    # 1.9 is all that 5% leave of 2.0.
    assert said[1.9].count(None) >= 80


def test_what_few_pairs_get_wrong_more_do_not() -> None:
    """A timing that is off by a quarter, and a script exactly as fast as it must be: of six pairs
    alone the median is often too low."""
    rng = np.random.default_rng(0)
    few = np.exp(rng.normal(np.log(2), 0.25 * np.sqrt(2), (100, 6)))
    assert sum(timing_of(pairs(list(each))).speedup < 1.9 for each in few) > 20
    assert [session(2.0, 0.25, rng) for _ in range(100)].count(False) <= 4


def test_where_it_is_hardest_it_is_wrong_as_seldom_as_promised() -> None:
    """500 scripts right at the limit, some calls of which take far too long: the binomial
    distribution's upper 99.9% for the promised 5% is 41."""
    rng = np.random.default_rng(0)

    def noise() -> float:
        return float(rng.normal(0, 0.03) + (rng.exponential(0.5) if rng.random() < 0.1 else 0))

    def said() -> bool | None:
        logs = [noise() - noise() + np.log(1.9) for _ in range(GOAL.analyses[-1])]
        found = (GOAL.reached(pairs(list(np.exp(logs[:count])))) for count in GOAL.analyses)
        return next((each for each in found if each is not None), None)

    assert 5 < sum(said() is not None for _ in range(500)) <= 41


def test_it_is_looked_at_the_looks_and_nowhere_else() -> None:
    clear = pairs([2.5] * 48)
    wanting = [count for count in range(49) if GOAL.wants_more(clear[:count])]
    assert set(range(49)) - set(wanting) == {3, 6, 12, 24, 48}
    unclear = pairs([1.8, 2.2] * 24)
    assert [count for count in range(49) if not GOAL.wants_more(unclear[:count])] == [48]


def test_a_latency_is_reached_or_not_or_unclear() -> None:
    goal = Goal((4,), 0.95, seconds_per_image=0.5, images=2)

    def said(*seconds: float) -> bool | None:
        return goal.reached([(1.0, each) for each in seconds])

    assert said(0.9, 0.91, 0.9, 0.92) is True
    assert said(1.2, 1.21, 1.2, 1.22) is False
    assert said(0.9, 1.4, 0.8, 1.3) is None
    assert Goal((1,), 0.95).reached([(1.0, 1.0)]) is True  # nothing was asked for
