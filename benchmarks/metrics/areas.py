"""How well a metric tells what broke from what did not: areas under the ROC curve, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from benchmarks.metrics.scored import Bools, Candidate, Floats
from diffaccel.plugins.metrics import METRICS

SAMPLES = 500
CONFIDENCE = 0.95


def area(values: Sequence[float] | Floats, broken: Sequence[bool] | Bools) -> float:
    """How often a broken one has the higher value, 0.5 is chance; a tie is a half. Not a number
    where all are broken, or none."""
    those = np.asarray(broken, dtype=bool)
    bad, good = int(those.sum()), int((~those).sum())
    if not bad or not good:
        return float("nan")
    ranks = rankdata(np.asarray(values))
    return float((ranks[those].sum() - bad * (bad + 1) / 2) / (bad * good))


@dataclass(frozen=True, eq=False)
class Pooled:
    """Images of several candidates whose baseline images are right.

    Args:
        values: how bad each is by a metric, the higher the worse.
        broken: whether each broke.
        prompts: of each, by number.
    """

    values: Floats
    broken: Bools
    prompts: Sequence[int] | np.ndarray

    @classmethod
    def of(cls, candidates: Sequence[Candidate], metric: str) -> Pooled:
        prompts = [np.asarray(each.prompts)[each.right] for each in candidates]
        _, numbers = np.unique(np.concatenate(prompts), return_inverse=True)
        return cls(
            np.concatenate([each.worse(metric) for each in candidates]),
            np.concatenate([each.broken for each in candidates]),
            numbers,
        )

    @property
    def area(self) -> float:
        return area(self.values, self.broken)

    def interval(self, samples: int = SAMPLES, seed: int = 0) -> tuple[float, float]:
        """Of the area, by a bootstrap over the prompts: the images of a prompt go together, since
        what breaks with one candidate breaks with the next."""
        random = np.random.default_rng(seed)
        numbers = np.asarray(self.prompts)
        groups = [np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1)]
        found = []
        for _ in range(samples):
            drawn = random.integers(0, len(groups), len(groups))
            chosen = np.concatenate([groups[number] for number in drawn])
            found.append(area(self.values[chosen], self.broken[chosen]))
        ends = np.nanquantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(ends[0]), float(ends[1])


# ---- candidates ---------------------------------------------------------------------------------


def badness(candidates: Sequence[Candidate], metric: str) -> Floats:
    """Of each candidate, the higher the worse: its mean where a metric compares with the baseline's
    image, else the relative loss."""
    means: Floats = np.array([each.mean(metric) for each in candidates])
    spec = METRICS[metric]
    return -means if spec.needs_reference and spec.better == "higher" else means


def breaking(candidates: Sequence[Candidate], most: float) -> Bools:
    """Which of them break more scenes than that share."""
    found: Bools = np.array([each.share > most for each in candidates])
    return found


@dataclass(frozen=True)
class Threshold:
    """A limit of one metric as a test of candidates.

    Args:
        value: as a limit says it: of the mean, or of the relative loss.
        kept: share of the candidates that break few scenes which keep it.
        passed: share of those that break many which keep it, too.
    """

    value: float
    kept: float
    passed: float

    @classmethod
    def of(cls, worse: Floats, bad: Bools, at: float, sign: int) -> Threshold:
        """A candidate keeps a threshold at or below it, by how bad it is."""
        keeps = worse <= at
        return cls(sign * at, _share(keeps[~bad]), _share(keeps[bad]))


def _share(keeps: Bools) -> float:
    return float(keeps.mean()) if len(keeps) else float("nan")


def thresholds(candidates: Sequence[Candidate], metric: str, most: float) -> list[Threshold]:
    """At each value that a candidate has, the strictest first.

    Args:
        most: share of broken scenes that is few.
    """
    worse, bad = badness(candidates, metric), breaking(candidates, most)
    sign = -1 if METRICS[metric].needs_reference and METRICS[metric].better == "higher" else 1
    return [Threshold.of(worse, bad, at, sign) for at in np.unique(worse)]


def best(found: Sequence[Threshold]) -> Threshold:
    """The one that separates best: most of the good kept over the bad that pass (Youden's J); of
    equal ones the strictest."""
    return max(found, key=lambda each: each.kept - each.passed)


def safe(found: Sequence[Threshold]) -> Threshold | None:
    """The loosest that no bad candidate passes, or None."""
    return max((each for each in found if each.passed == 0), key=lambda e: e.kept, default=None)
