"""How often an accelerated image is preferred, and the interval of that."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import binomtest, norm

from diffaccel.experiment.grid import Configuration
from diffaccel.report.blind.preference import Preference, interval, preferences, standing
from diffaccel.report.blind.records import Comparison, journal_of
from tests import store

BASELINE = store.baseline(Configuration("mini-SD1.5", "DDIM", 20))
COUNTS = [(3, 5, 20), (0, 4, 12), (7, 0, 9), (10, 10, 20), (1, 0, 32)]


def by_likelihood(better: int, worse: int, pairs: int, difference: float) -> float:
    """The score statistic, with the likeliest share of worse pairs found by a numerical search."""

    def less_likely(share: float) -> float:
        same = max(0.0, 1 - 2 * share - difference)
        return -float(
            xlogy(better, share + difference)
            + xlogy(worse, share)
            + xlogy(pairs - better - worse, same)
        )

    bounds = (max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12)
    share = float(minimize_scalar(less_likely, bounds=bounds, method="bounded").x)
    variance = (2 * share + difference * (1 - difference)) / pairs
    return float(((better - worse) / pairs - difference) / math.sqrt(variance))


@pytest.mark.parametrize(("better", "worse", "pairs"), COUNTS)
def test_both_ends_are_just_not_refuted(better: int, worse: int, pairs: int) -> None:
    low, high = interval(better, worse, pairs)
    quantile = norm.ppf(0.975)
    assert low < (better - worse) / pairs < high
    assert by_likelihood(better, worse, pairs, low) == pytest.approx(quantile, rel=1e-3)
    assert by_likelihood(better, worse, pairs, high) == pytest.approx(-quantile, rel=1e-3)


@pytest.mark.parametrize("pairs", [5, 30, 200])
def test_it_agrees_with_the_test_without_ties(pairs: int) -> None:
    """It holds 0 just where McNemar's test tells no preference: that test leaves ties out."""
    for better in range(pairs // 3):
        for worse in range(pairs // 3):
            low, high = interval(better, worse, pairs)
            told = (better - worse) ** 2 > norm.ppf(0.975) ** 2 * (better + worse)
            assert told is not (low <= 0 <= high)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    """Also with few pairs, most of which look the same, where a normal interval does not."""
    rng = np.random.default_rng(0)
    for chances in ((0.1, 0.15, 0.75), (0.02, 0.02, 0.96), (0.3, 0.5, 0.2)):
        hits = 0
        for better, worse, _ in rng.multinomial(32, chances, size=400):
            low, high = interval(int(better), int(worse), 32)
            hits += low <= chances[0] - chances[1] <= high
        assert binomtest(hits, 400, 0.95, alternative="less").pvalue > 0.001


def test_ties_tell_that_no_difference_is_seen() -> None:
    """A pair that looks the same is more than a toss of a coin."""
    same = Preference.counted(0, 32, 0)
    assert same.share == 0.5 and same.meaning == "no preference found"
    tossed = binomtest(16, 32).proportion_ci(0.95, method="wilson")
    assert same.high - same.low < (tossed.high - tossed.low) / 2
    assert (same.low, same.high) == pytest.approx((0.446, 0.554), abs=1e-3)


@pytest.mark.parametrize(
    ("counts", "meaning"),
    [
        ((0, 10, 22), "looks worse"),
        ((22, 10, 0), "looks better"),
        ((10, 2, 10), "too few pairs to tell"),
        ((0, 3, 0), "too few pairs to tell"),
        ((0, 16, 0), "no preference found"),
        ((0, 0, 5), "looks worse"),
        ((2, 900, 40), "looks worse"),
    ],
)
def test_what_it_means(counts: tuple[int, int, int], meaning: str) -> None:
    found = Preference.counted(*counts)
    assert found.meaning == meaning
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert meaning in str(found) and f"{sum(counts)} pairs" in str(found)


@pytest.mark.parametrize("wrong", [(0, 0, 0), (3, 3, 5), (-1, 0, 5)])
def test_what_cannot_be_counted(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        interval(*wrong)


def said(verdict: str, prompt: int = 0, judge: str | None = None, time: int = 0) -> Comparison:
    parameters = store.deepcache(3)
    date = f"2026-11-30T10:00:{time:02}Z"
    return Comparison(
        parameters, prompt, "x", "y", "baseline", verdict, seed=1, date=date, judge=judge
    )


def test_the_last_word_counts_and_what_is_undone_does_not() -> None:
    rows = [said("worse", time=5), said("better", time=1), said("same", 1, time=2)]
    rows += [said("undone", 1, time=3), said("same", 2), said("undone", 2), said("better", 2)]
    assert {row.prompt: row.verdict for row in standing(rows)} == {0: "worse", 2: "better"}


def test_a_pair_that_several_judged_counts_once(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, BASELINE)
    for row in (
        *(said("worse", 0, judge) for judge in ("a", "b")),
        *(said(verdict, 1, judge) for verdict, judge in (("better", "a"), ("worse", "b"))),
        *(said(verdict, 2, judge) for verdict, judge in (("better", "a"), ("same", "b"))),
        dataclasses.replace(said("same"), parameters=store.deepcache(9)),
    ):
        journal.append(row)
    found = preferences(tmp_path, BASELINE)
    own = found[said("same").answer]
    assert (own.better, own.same, own.worse, own.judges, own.pairs) == (1, 1, 1, 2, 3)
    assert len(found) == 2


def test_what_was_said_of_other_images_does_not_count(tmp_path: Path) -> None:
    """Of another baseline, or of the same number of another prompt."""
    journal_of(tmp_path, BASELINE).append(said("same"))
    assert preferences(tmp_path, dataclasses.replace(BASELINE, digest="other")) == {}
    others = ["another", *BASELINE.prompts[1:]]
    assert preferences(tmp_path, dataclasses.replace(BASELINE, prompts=others)) == {}
    assert preferences(tmp_path, dataclasses.replace(BASELINE, warnings=["new"])) != {}
