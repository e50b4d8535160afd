"""Whether a loss is below its limit, asked again and again as prompts come in.

A loss below the limit l means that the mean accelerated score is above (1 - l) times the mean
baseline score: that the pairs' a - (1 - l) b have a positive mean. Each look is a paired t-test of
that, its error divided by the number of looks (Bonferroni), so that all looks together are wrong as
seldom as one would be. The pairs are skewed, since most images hardly change and a few break, so
that t is corrected for skewness (Johnson, "Modified t tests and confidence intervals for
asymmetrical populations", Journal of the American Statistical Association 73, 1978).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

FEWEST = 8
"""Prompts before the first look."""


def looks(batch: int, usual: int, most: int) -> tuple[int, ...]:
    """Numbers of prompts at which to look: a batch and `FEWEST` at least, then twice as many each
    time, with a look at ``usual`` and the last at ``most``."""
    at = min(max(batch, FEWEST), usual)
    found = [at]
    while at < most:
        at = min(2 * at, usual if at < usual else most)
        found.append(at)
    return tuple(found)


def below(
    baseline: Sequence[float], accelerated: Sequence[float], limit: float, error: float
) -> bool | None:
    """Whether the relative loss of the mean score is below a limit; None while that is not clear.

    Args:
        baseline, accelerated: scores of the same prompts and seeds, in the same order.
        error: probability of a wrong answer, at most, where the loss lies right at the limit.
    """
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
