"""The acquisition value: how far measuring a candidate may be expected to move the answers.

Source: expected improvement under a constraint, Schonlau, Welch and Jones, "Global versus local
search in constrained optimization of computer models", 1998.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from diffaccel.search import pareto
from diffaccel.search.gaussian import Floats
from diffaccel.search.losses import scaled
from diffaccel.search.strategies.base import Problem

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
CONTAMINATION_STD = 1.5
"""Standard deviation of the scaled loss about what is predicted, where it is nothing like that."""
MEETING = 0.1
"""Probability of meeting an open target that is worth a measurement."""


@dataclass(frozen=True)
class Posterior:
    """Of each of n candidates: log-speedup and scaled loss, means and standard deviations (not 0).

    Args:
        speed, speed_std, loss, loss_std: (n,) each.
        loss_limit: scaled as the losses are.
        contamination_weight: share of the candidates whose loss is nothing like what is predicted.
    """

    speed: Floats
    speed_std: Floats
    loss: Floats
    loss_std: Floats
    loss_limit: float
    contamination_weight: float = 0.0

    def probability_of_feasibility(self) -> Floats:
        """Probability that the loss is below the limit, (n,)."""
        off = self.loss_limit - self.loss
        usual = ndtr(off / self.loss_std)
        return usual + self.contamination_weight * (ndtr(off / CONTAMINATION_STD) - usual)

    def probability_of_improvement(self, speedup: float) -> Floats:
        """Probability of at least that speedup, (n,)."""
        return ndtr((self.speed - math.log(speedup)) / self.speed_std)


def expected_improvement(mean: Floats, std: Floats) -> Floats:
    """Expected value of max(0, X) for a normal X."""
    z = mean / std
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.maximum(0.0, mean * ndtr(z) + std * density)


def acquisition_values(
    problem: Problem, history: Sequence[pareto.Measured], posterior: Posterior
) -> list[Floats]:
    """For each question, what measuring each candidate is worth to it, (n,); at 1.0 it deserves
    measuring.

    Args:
        history: what is known already.
    """
    limit = problem.loss_limit
    feasible = posterior.probability_of_feasibility()
    values = []
    if problem.bound:
        held = _held_speed(pareto.bound(history, limit), posterior)
        gain = expected_improvement(posterior.speed - held - MARGIN, posterior.speed_std)
        values.append(feasible * gain / FASTER)
    for target in problem.targets:
        fast = posterior.probability_of_improvement(target)
        best = pareto.meet(history, target, limit)
        if best is None:
            values.append(fast * feasible / MEETING)
        else:
            held = scaled(max(best.loss, 0.0), limit)
            values.append(fast * _less_loss(held, posterior) / LESS_LOSS)
    return values


def _held_speed(fastest: pareto.Measured | None, posterior: Posterior) -> float:
    """Log-speedup that a bound must improve on. What is not faster than the baseline pipeline is as
    good as anything that is not; but if nothing keeps the limit, anything that does is worth
    something."""
    if fastest is None:
        return float((posterior.speed - 2 * posterior.speed_std).min()) - MARGIN
    return max(math.log(fastest.speedup), 0.0)


def _less_loss(held: float, posterior: Posterior) -> Floats:
    """Expected reduction of a scaled loss, which counts down to 0."""
    below = expected_improvement(held - posterior.loss, posterior.loss_std)
    return below - expected_improvement(-posterior.loss, posterior.loss_std)
