"""What timed pairs tell: the speedup, how sure it is, which pairs do not count, and drift.

All of it is in logarithms of the pairs' ratios: twice as fast is as far off as half as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffaccel.evaluation.records import Timing
from diffaccel.evaluation.sequential import positive, trimmed
from diffaccel.experiment.options import MeasureOptions

Floats = NDArray[np.float64]

FAR = 3.5
"""Modified z-score from which a pair is an outlier: its distance from the median, in standard
deviations as the median distance tells them. Source: Iglewicz and Hoaglin, "How to Detect and
Handle Outliers", 1993, section 3.3."""
STILL = 0.01
"""Standard deviation that is taken to be there at least: few pairs may agree by chance."""
FEWEST = 3
"""Pairs below which nothing can be said of any one of them."""
TOLERANCE = 0.05
"""Share of the speed that a script must have which is left to the timing."""
TREND = 0.8
"""Kendall's tau between the ratios and their order from which they drift: all of three or four
pairs are in order, or all but one couple of five or six."""


def timing_of(pairs: Sequence[tuple[float, float]]) -> Timing:
    """Summary of (baseline, accelerated) seconds, in the order in which they were taken."""
    first, second = np.array(pairs).T
    logs = np.log(first / second)
    odd = outliers(logs)
    kept = np.delete(np.arange(len(logs)), odd)
    return Timing(
        baseline=first.tolist(),
        accelerated=second.tolist(),
        speedup=float(np.median(np.exp(logs[kept]))),
        speedup_of_means=float(first[kept].mean() / second[kept].mean()),
        spread=_spread(logs[kept]),
        outliers=odd,
        drift=drift(logs[kept]),
    )


def latencies(seconds: Sequence[float]) -> tuple[float, float]:
    """The median of calls (p50), and what 99 of 100 do not exceed (p99): of fewer than 100, the
    slowest."""
    return float(np.median(seconds)), float(np.quantile(seconds, 0.99, method="higher"))


def spread_of(pairs: Sequence[tuple[float, float]]) -> float:
    """How far the pairs that count differ; see `Timing`."""
    first, second = np.array(pairs).T
    logs = np.log(first / second)
    return _spread(np.delete(logs, outliers(logs)))


def _spread(logs: Floats) -> float:
    low, middle, high = np.quantile(np.exp(logs), [0.25, 0.5, 0.75])
    return float((high - low) / 2 / middle)


def outliers(logs: Floats) -> list[int]:
    """Which pairs are too far from the others to be of the same kind; never half of them."""
    if len(logs) < FEWEST:
        return []
    from scipy.stats import median_abs_deviation

    distances = np.abs(logs - np.median(logs))
    scale = max(float(median_abs_deviation(logs, scale="normal")), STILL)
    return [int(index) for index in np.flatnonzero(distances > FAR * scale)]


def drift(logs: Floats) -> float:
    """By how much the ratio changes from the first pair to the last, relative, if it does so nearly
    without a step back; else 0.

    Source: Kendall, "A New Measure of Rank Correlation", Biometrika 30, 1938; the slope is the
    median of those between any two: Sen, Journal of the American Statistical Association 63, 1968.
    """
    if len(logs) < FEWEST:
        return 0.0
    from scipy.stats import kendalltau, theilslopes

    order = np.arange(len(logs))
    if abs(float(kendalltau(order, logs, variant="b").statistic)) < TREND:
        return 0.0
    return float(np.expm1(theilslopes(logs, order).slope * (len(logs) - 1)))


def drifts(timing: Timing, options: MeasureOptions) -> bool:
    """Whether the pairs go one way by more than pairs that are spread as they may be."""
    return abs(timing.drift) > 2 * options.spread


def want_more(
    pairs: Sequence[tuple[float, float]], options: MeasureOptions, *, short: bool = False
) -> bool:
    """Whether pairs are too few, without those that do not count, differ too much, or drift; and
    there may be more.

    Args:
        short: however much they differ or drift, few are enough.
    """
    if len(pairs) >= options.max_pairs:
        return False
    if len(pairs) < options.pairs:
        return True
    timing = timing_of(pairs)
    unsteady = timing.spread > options.spread or drifts(timing, options)
    return timing.counted < options.pairs or (unsteady and not short)


@dataclass(frozen=True)
class Goal:
    """How fast a script must be, and when it is tested whether it is.

    Args:
        analyses: numbers of pairs, ascending; there are no more than the last of them.
        confidence: that nothing is said to be clear that is not so, over all interim analyses
            together.
        speedup: that it must reach, if any.
        seconds_per_image: that it may take at most; only where no speedup is asked for.
        images: of a call.
    """

    analyses: tuple[int, ...]
    confidence: float
    speedup: float | None = None
    seconds_per_image: float | None = None
    images: int = 1

    def reached(self, pairs: Sequence[tuple[float, float]]) -> bool | None:
        """Whether it is, but for `TOLERANCE`; None where the timing does not tell, and true where
        nothing was asked for.

        Args:
            pairs: (baseline, accelerated) seconds.
        """
        baseline, own = np.array(pairs).T
        if self.speedup is not None:
            logs = np.log(baseline / own / self.speedup)
        elif self.seconds_per_image is not None:
            logs = np.log(self.seconds_per_image * self.images / own)
        else:
            return True
        above = (logs - math.log(1 - TOLERANCE)).tolist()
        return positive(*trimmed(above), (1 - self.confidence) / len(self.analyses))

    def wants_more(self, pairs: Sequence[tuple[float, float]]) -> bool:
        """Whether more pairs may tell: at an interim analysis, where it is not clear, and up to the
        next."""
        count = len(pairs)
        if count in self.analyses:
            return count < self.analyses[-1] and self.reached(pairs) is None
        return count < self.analyses[-1]
