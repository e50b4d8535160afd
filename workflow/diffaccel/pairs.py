"""What timed pairs tell: the speedup, how sure it is, which pairs do not count, and drift.

All of it is in logarithms of the pairs' ratios: twice as fast is as far off as half as fast.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffaccel.records import Timing

Floats = NDArray[np.float64]

FAR = 3.5
"""Modified z-score from which a pair is an outlier: its distance from the median, in standard
deviations as the median distance tells them. Source: Iglewicz and Hoaglin, "How to Detect and
Handle Outliers", 1993, section 3.3."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution over the median distance from its median."""
STILL = 0.01
"""Standard deviation that is taken to be there at least: few pairs may agree by chance."""
FEWEST = 3
"""Pairs below which nothing can be said of any one of them."""
TREND = 0.8
"""Kendall's tau between the ratios and their order from which they drift: all of three or four
pairs are in order, or all but one couple of five or six."""


def timing_of(pairs: Sequence[tuple[float, float]]) -> Timing:
    """Summary of (baseline, accelerated) seconds, in the order in which they were taken."""
    first, second = np.array(pairs).T
    logs = np.log(first / second)
    odd = outliers(logs)
    kept = np.delete(np.arange(len(logs)), odd)
    ratios = np.exp(logs[kept])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return Timing(
        baseline=first.tolist(),
        accelerated=second.tolist(),
        speedup=float(middle),
        speedup_of_means=float(first[kept].mean() / second[kept].mean()),
        spread=float((high - low) / 2 / middle),
        outliers=odd,
        drift=drift(logs[kept]),
    )


def outliers(logs: Floats) -> list[int]:
    """Which pairs are too far from the others to be of the same kind; never half of them."""
    if len(logs) < FEWEST:
        return []
    distances = np.abs(logs - np.median(logs))
    scale = max(NORMAL * float(np.median(distances)), STILL)
    return [int(index) for index in np.flatnonzero(distances > FAR * scale)]


def drift(logs: Floats) -> float:
    """By how much the ratio changes from the first pair to the last, relative, if it does so nearly
    without a step back; else 0.

    Source: Kendall, "A New Measure of Rank Correlation", Biometrika 30, 1938; the slope is the
    median of those between any two: Sen, Journal of the American Statistical Association 63, 1968.
    """
    if len(logs) < FEWEST:
        return 0.0
    couples = list(itertools.combinations(range(len(logs)), 2))
    slopes = np.array([(logs[later] - logs[early]) / (later - early) for early, later in couples])
    if abs(np.sign(slopes).mean()) < TREND:
        return 0.0
    return float(np.expm1(np.median(slopes) * (len(logs) - 1)))


def at_least(logs: Floats, least: float, error: float) -> bool | None:
    """Whether what was timed again and again is at least so much; None while that is not clear.

    A t-test of the mean, without outliers.

    Args:
        logs: logarithms of ratios or times, one a round.
        least: logarithm, too.
        error: probability of saying what is not so where it lies right at ``least``.
    """
    from scipy.stats import t

    kept = np.delete(logs, outliers(logs))
    if len(kept) < 2:
        return None
    away, spread = float(kept.mean()) - least, float(kept.std(ddof=1))
    if abs(away) <= float(t.ppf(1 - error / 2, len(kept) - 1)) * spread / math.sqrt(len(kept)):
        return None
    return away > 0
