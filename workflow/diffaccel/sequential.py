"""Whether a loss is below its limit, asked again and again as prompts come in.

A loss below the limit l means that the mean accelerated score is above (1 - l) times the mean
baseline score: that the pairs' a - (1 - l) b have a positive mean. Each look is a paired t-test of
that, its error divided by the number of looks (Bonferroni), so that all looks together are wrong as
seldom as one would be. The pairs are skewed, since most images hardly change and a few break, so
that t is corrected for skewness (Johnson, "Modified t tests and confidence intervals for
asymmetrical populations", Journal of the American Statistical Association 73, 1978).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 8
"""Prompts before the first look."""


@dataclass(frozen=True)
class Looks:
    """When to look, and what can be said then.

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
        count = min(max(self.batch, FEWEST), self.usual)
        found = [count]
        while count < self.most:
            count = min(2 * count, self.usual if count < self.usual else self.most)
            found.append(count)
        return tuple(found)

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
        found = _below(baseline[:count], accelerated, limit, (1 - self.confidence) / len(self.at))
        return None if found and count < self.usual else found


def _below(
    baseline: Sequence[float], accelerated: Sequence[float], limit: float, error: float
) -> bool | None:
    """One look, with a probability of error where the loss lies right at the limit."""
    from scipy.stats import t

    kept = [a - (1 - limit) * b for a, b in zip(accelerated, baseline, strict=True)]
    count = len(kept)
    if count < 2:
        return None
    mean, spread = statistics.fmean(kept), statistics.stdev(kept)
    if spread == 0:
        return mean > 0
    third = statistics.fmean((each - mean) ** 3 for each in kept) / spread**3
    away = mean / spread
    corrected = math.sqrt(count) * (away + third * (1 / (6 * count) + away**2 / 3))
    if abs(corrected) <= float(t.ppf(1 - error / 2, count - 1)):
        return None
    return corrected > 0
