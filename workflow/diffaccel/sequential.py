"""Whether something is so, asked again and again as measurements come in.

Each look is a t-test of whether the mean of what was measured is above 0, its error divided by the
number of looks (Bonferroni), so that all looks together are wrong as seldom as one would be. Where
one does not tell, twice as much is measured before the next. `Looks` asks it of a loss, where the
measurements are skewed, and `diffaccel.pairs.Goal` of a speed, where some are far off.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 8
"""Prompts before the first look."""
TRIM = 0.2
"""Share of the pairs at either end, the slowest and the fastest, that do not count for a speed."""


def doubling(first: int, usual: int, most: int) -> tuple[int, ...]:
    """After how many measurements to look: twice as many each time, with a look at ``usual`` and
    the last at ``most``, or at ``usual`` where that is more."""
    found = [count := min(first, usual)]
    while count < max(usual, most):
        count = min(2 * count, usual if count < usual else most)
        found.append(count)
    return tuple(found)


def skewed(values: Sequence[float]) -> tuple[float, int]:
    """t of a mean, corrected for skewness, and its degrees of freedom.

    Source: Johnson, "Modified t tests and confidence intervals for asymmetrical populations",
    Journal of the American Statistical Association 73, 1978.
    """
    count = len(values)
    if count < 2:
        return 0.0, 1
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if spread == 0:
        return _beyond_doubt(mean), count - 1
    third = statistics.fmean((each - mean) ** 3 for each in values) / spread**3
    away = mean / spread
    return math.sqrt(count) * (away + third * (1 / (6 * count) + away**2 / 3)), count - 1


def trimmed(values: Sequence[float]) -> tuple[float, int]:
    """t of a mean without the `TRIM` that lies at either end, and its degrees of freedom.

    Source: Tukey and McLaughlin, "Less vulnerable confidence and significance procedures for
    location based on a single sample", Sankhya A 25, 1963.
    """
    count, cut = len(values), int(TRIM * len(values))
    if count < 2:
        return 0.0, 1
    ordered = sorted(values)
    kept = ordered[cut : count - cut]
    mean, freedom = statistics.fmean(kept), len(kept) - 1
    spread = statistics.stdev([kept[0]] * cut + kept + [kept[-1]] * cut)
    if spread == 0:
        return _beyond_doubt(mean), freedom
    return mean * (1 - 2 * cut / count) * math.sqrt(count) / spread, freedom


def _beyond_doubt(mean: float) -> float:
    return math.inf if mean > 0 else -math.inf


def positive(found: tuple[float, int], error: float) -> bool | None:
    """One look at whether a mean is above 0; None while that is not clear.

    Args:
        found: its t, and the degrees of freedom.
        error: probability of saying what is not so where the mean lies right at 0.
    """
    from scipy.stats import t

    statistic, freedom = found
    if abs(statistic) <= float(t.ppf(1 - error / 2, freedom)):
        return None
    return statistic > 0


@dataclass(frozen=True)
class Looks:
    """When to look at a loss, and what can be said then.

    Args:
        batch: prompts that are drawn at once.
        usual: prompts that every setting is drawn with, unless it clearly loses too much.
        most: prompts that there are.
        confidence: that nothing is said to be clear that is not so, over all looks together.
    """

    batch: int
    usual: int
    most: int
    confidence: float

    @functools.cached_property
    def at(self) -> tuple[int, ...]:
        """Numbers of prompts: a batch and `FEWEST` at least, then twice as many each time, with a
        look at ``usual`` and the last at ``most``."""
        return doubling(max(self.batch, FEWEST), self.usual, self.most)

    def below(
        self, baseline: Sequence[float], accelerated: Sequence[float], limit: float
    ) -> bool | None:
        """Whether the relative loss of the mean score is below a limit; None while that is not
        clear.

        Few prompts can tell that much is lost, but not that nothing is: the image that breaks may
        be the next. So nothing is below the limit before the usual number of prompts.

        Args:
            baseline, accelerated: scores of the same prompts and seeds, in the same order; of the
                baseline there may be more.
        """
        count = len(accelerated)
        # Below the limit l is a mean accelerated score above (1 - l) times the mean baseline score.
        # The pairs are skewed, since most images hardly change and a few break.
        kept = [a - (1 - limit) * b for a, b in zip(accelerated, baseline[:count], strict=True)]
        found = positive(skewed(kept), (1 - self.confidence) / len(self.at))
        return None if found and count < self.usual else found
