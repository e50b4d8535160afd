"""Group-sequential tests: is a mean above 0, asked again as measurements come in.

Each interim analysis is a t-test of whether the mean of what was measured is above 0. The errors of
all of them add up to the one that is stated (Bonferroni). Where one does not tell, twice as much is
measured before the next. `InterimAnalyses` asks it of a loss, where the measurements are skewed,
and `diffaccel.evaluation.pairs.Goal` of a speedup, where some are far off.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST = 8
"""Prompts before the first interim analysis."""
MANY = 4096
"""Prompts above which nobody is told how many would do."""
TRIM = 0.2
"""Share of the pairs at either end, the slowest and the fastest, that do not count for a speed."""
_EQUAL = 1e-9
"""Relative spread of values below which they differ by rounding alone."""


def doubling(first: int, usual: int, most: int) -> tuple[int, ...]:
    """Numbers of measurements at the interim analyses: each time twice as many, with one at
    ``usual`` and the last at ``most``, or at ``usual`` where that is more."""
    found = [count := min(first, usual)]
    while count < max(usual, most):
        count = min(2 * count, usual if count < usual else most)
        found.append(count)
    return tuple(found)


@dataclass(frozen=True)
class SkewedMean:
    """The mean of skewed values, studentized.

    Source: Hall, "On the removal of skewness by transformation", Journal of the Royal Statistical
    Society B 54, 1992. His cubic of the studentized mean has nearly Student's distribution, rises
    with the mean everywhere, and can be inverted. Johnson's modified t (1978) is a parabola in the
    mean: far from 0 it says the opposite of the truth.

    Args:
        count: of the values, at least 2.
        mean, spread: of the values, and their standard deviation.
        skew: their skewness.
    """

    count: int
    mean: float
    spread: float
    skew: float

    @classmethod
    def of(cls, values: Floats) -> SkewedMean:
        import numpy as np  # not at the top: answers are read without it, in a moment

        mean, spread = float(values.mean()), float(values.std(ddof=1))
        if spread <= _EQUAL * float(np.abs(values).max()):
            return cls(len(values), mean, 0.0, 0.0)
        # Not scipy.stats.skew: its checks take 30 times as long as the sum, at each of thousands.
        skew = float((((values - mean) / values.std()) ** 3).mean())
        return cls(len(values), mean, spread, skew)

    @property
    def statistic(self) -> float:
        """Of the mean above 0, with ``count - 1`` degrees of freedom."""
        if self.spread == 0:
            return math.inf if self.mean > 0 else -math.inf
        away, third = self.mean / self.spread, self.skew / 3
        cubic = away * (1 + third * away + (third * away) ** 2 / 3)
        return math.sqrt(self.count) * (cubic + self.skew / (6 * self.count))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Limits of the mean: all that the test would not tell from it."""
        found = critical((1 + confidence) / 2, self.count - 1)
        return self._above(found), self._above(-found)

    def _above(self, statistic: float) -> float:
        """What the mean has this statistic above: the inverse of the cubic."""
        import numpy as np

        scaled = statistic / math.sqrt(self.count) - self.skew / (6 * self.count)
        if abs(self.skew) < _EQUAL:
            return self.mean - self.spread * scaled
        away = (float(np.cbrt(1 + self.skew * scaled)) - 1) * 3 / self.skew
        return self.mean - self.spread * away


def clustered(values: Floats, clusters: Sequence[str]) -> Floats:
    """One value a cluster, so that their mean is that of all, and their spread that between
    clusters: images of one prompt are alike, and no more than one observation.

    Args:
        values: of n images.
        clusters: n names, of the prompts.

    Source: Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", Journal of
    Human Resources 50, 2015: the sums of the clusters are what is independent.
    """
    import numpy as np

    _, which = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(which, weights=values).astype(np.float64)
    return sums * (len(sums) / len(values))


def trimmed(values: Sequence[float]) -> tuple[float, int]:
    """t of a mean without the `TRIM` that lies at either end, and its degrees of freedom.

    Source: Tukey and McLaughlin, "Less vulnerable confidence and significance procedures for
    location based on a single sample", Sankhya A 25, 1963.
    """
    import numpy as np
    from scipy.stats import trim_mean

    count, cut = len(values), int(TRIM * len(values))
    if count < 2:
        return 0.0, 1
    mean, freedom, ordered = float(trim_mean(values, TRIM)), count - 2 * cut - 1, np.sort(values)
    # The spread is that of the winsorized values.
    spread = float(np.clip(ordered, ordered[cut], ordered[count - cut - 1]).std(ddof=1))
    if spread == 0:
        return math.inf if mean > 0 else -math.inf, freedom
    return mean * (1 - 2 * cut / count) * math.sqrt(count) / spread, freedom


@functools.lru_cache(maxsize=1000)
def critical(probability: float, freedom: int) -> float:
    """Quantile of Student's distribution."""
    from scipy.stats import t

    return float(t.ppf(probability, freedom))


def positive(statistic: float, freedom: int, error: float) -> bool | None:
    """One interim analysis of whether a mean is above 0; None while that is not clear.

    Args:
        statistic: t of the mean.
        freedom: its degrees of freedom.
        error: probability of saying what is not so where the mean lies right at 0.
    """
    if abs(statistic) <= critical(1 - error / 2, freedom):
        return None
    return statistic > 0


@dataclass(frozen=True)
class InterimAnalyses:
    """When to analyse a loss, and what can be said then.

    Args:
        batch: prompts that are generated at once.
        usual: prompts that every candidate is evaluated with, unless it clearly loses too much.
        most: prompts that there are.
        confidence: that nothing is said to be clear that is not so, over all analyses together.
        prompts: those that there are, in order; where one is there twice, its images count as one
            observation. Without them all are taken to differ.
    """

    batch: int
    usual: int
    most: int
    confidence: float
    prompts: tuple[str, ...] = ()

    @functools.cached_property
    def at(self) -> tuple[int, ...]:
        """Numbers of prompts: a batch and `FEWEST` at least, then twice as many each time, with an
        analysis at ``usual`` and the last at ``most``."""
        return doubling(max(self.batch, FEWEST), self.usual, self.most)

    def below(
        self, baseline: Sequence[float], accelerated: Sequence[float], limit: float
    ) -> bool | None:
        """Whether the relative loss of the mean score is below a limit; None while that is not
        clear. What is said agrees with the means of the scores.

        Few prompts can tell that much is lost, but not that nothing is: the image that breaks may
        be the next. So nothing is below the limit before the usual number of prompts.

        Args:
            baseline, accelerated: scores of the same prompts and seeds, in the same order; of the
                baseline there may be more.
        """
        count = len(accelerated)
        kept = self._kept(baseline, accelerated, limit)
        if kept is None:
            return None
        found = positive(kept.statistic, kept.count - 1, self._error)
        return None if found and count < self.usual else found

    def needed(
        self, baseline: Sequence[float], accelerated: Sequence[float], limit: float
    ) -> int | None:
        """About how many prompts would tell it, were all of them like those that there are; None
        where that is more than `MANY`.

        Args: as of `below`.
        """
        kept = self._kept(baseline, accelerated, limit)
        if kept is None or kept.spread == 0:
            return max(self.usual, FEWEST)
        one, count = abs(kept.statistic) / math.sqrt(kept.count), max(self.usual, len(accelerated))
        while count <= MANY:
            if one * math.sqrt(count) > critical(1 - self._error / 2, count - 1):
                return count
            count += self.batch
        return None

    @property
    def _error(self) -> float:
        """Of one interim analysis."""
        return (1 - self.confidence) / len(self.at)

    def _kept(
        self, baseline: Sequence[float], accelerated: Sequence[float], limit: float
    ) -> SkewedMean | None:
        """By how much the scores are above what they must be; None of a single prompt."""
        import numpy as np

        count = len(accelerated)
        # Below the limit l is a mean accelerated score above (1 - l) times the mean baseline score.
        # The pairs are skewed, since most images hardly change and a few break.
        kept = np.asarray(accelerated) - (1 - limit) * np.asarray(baseline[:count])
        if self.prompts:
            kept = clustered(kept, self.prompts[:count])
        return SkewedMean.of(kept) if len(kept) > 1 else None
