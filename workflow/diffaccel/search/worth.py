"""What it is worth to measure a candidate: how far it may be expected to move the answers.

Source: expected improvement under a constraint, Schonlau, Welch and Jones, "Global versus local
search in constrained optimization of computer models", 1998.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from diffaccel.search import pareto
from diffaccel.search.losses import scaled
from diffaccel.search.strategies.base import Problem

Floats = NDArray[np.float64]

UNSURE = 0.05
"""Standard deviation of a predicted log-speedup above which what may be chosen is timed."""
EXACT = 1e-6
"""Standard deviation of what is not in doubt."""
MARGIN = 0.01
"""What the bound must gain, in log-speedup, to count as a gain."""
FASTER = 0.005
"""Expected gain beyond that margin that is worth a measurement."""
LESS_LOSS = 0.1
"""Expected reduction of a target's loss, as a share of the limit, that is worth a measurement."""
WILD_STD = 1.5
"""Standard deviation of the scaled loss about what is predicted, where it is nothing like that."""
MEETING = 0.1
"""Probability of meeting an open target that is worth a measurement."""


@dataclass(frozen=True)
class Forecast:
    """Of each candidate: log-speedup and scaled loss, means and standard deviations (not 0).

    Args:
        wild: share of the candidates whose loss is nothing like what is predicted.
    """

    speed: Floats
    speed_std: Floats
    loss: Floats
    loss_std: Floats
    loss_limit: float  # scaled likewise
    wild: float = 0.0

    def within(self) -> Floats:
        """Probability that the loss is below the limit."""
        off = self.loss_limit - self.loss
        usual = ndtr(off / self.loss_std)
        return usual + self.wild * (ndtr(off / WILD_STD) - usual)

    def reaches(self, speedup: float) -> Floats:
        """Probability of at least that speedup."""
        return ndtr((self.speed - math.log(speedup)) / self.speed_std)


def excess(mean: Floats, std: Floats) -> Floats:
    """Expected value of max(0, X) for a normal X: expected improvement."""
    z = mean / std
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.maximum(0.0, mean * ndtr(z) + std * density)


def worth(problem: Problem, history: Sequence[pareto.Measured], f: Forecast) -> list[Floats]:
    """For each question, what each candidate is worth to it; at 1.0 it deserves measuring.

    Args:
        history: what is known already.
    """
    limit = problem.loss_limit
    within = f.within()
    fastest = pareto.bound(history, limit)
    worths = []
    if problem.bound:
        # What is not faster than the baseline pipeline is as good as anything that is not; but if
        # nothing keeps the limit, anything that does is worth something.
        slowest = float((f.speed - 2 * f.speed_std).min()) - MARGIN
        held = max(math.log(fastest.speedup), 0.0) if fastest else slowest
        worths.append(within * excess(f.speed - held - MARGIN, f.speed_std) / FASTER)
    for target in problem.targets:
        best = pareto.meet(history, target, limit)
        if best is None:
            worths.append(f.reaches(target) * within / MEETING)
            continue
        held = scaled(max(best.loss, 0.0), limit)
        lower = excess(held - f.loss, f.loss_std) - excess(-f.loss, f.loss_std)
        worths.append(f.reaches(target) * lower / LESS_LOSS)
    return worths
