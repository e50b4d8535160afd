"""A small regression that knows what is known of accelerators: more aggressive is usually more.

Gaussian processes over the levels of `Space` (0 mild, 1 aggressive on each axis), averaged over a
fixed set of assumptions about which axes matter, how strongly and how curved, each weighted by how
well it explains the measurements (Bayesian model averaging; Rasmussen & Williams, "Gaussian
Processes for Machine Learning", 2006, sections 2.2 and 5.2). A monotonicity constraint narrows the
prediction further: it lies between what milder and what more aggressive points gave.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffaccel.search.gaussian import Floats, Process, squared_distances, squared_exponential

ASSUMPTIONS = 600
KEPT = 16


@dataclass(frozen=True)
class Quantity:
    """What is known of a quantity before anything is measured; all in the quantity's own unit.

    Args:
        rise: range of what all axes together may add, from mildest to most aggressive.
        curvature: exponents on the levels: below 1 early, above 1 late effect.
        offset: standard deviation of its value at the mildest point, around 0.
        noise: standard deviations of its nugget, what each point has alone.
    """

    rise: tuple[float, float]
    curvature: tuple[float, ...]
    offset: float
    noise: tuple[float, ...]


@dataclass(frozen=True)
class _Assumptions:
    """``n`` assumptions on ``d`` axes; every array's first dimension is ``n``."""

    rise: Floats
    curvature: Floats  # (n, d)
    weights: Floats  # (n, d), how the rise divides among the axes
    length: Floats
    bend: Floats
    noise: Floats

    def pick(self, index: NDArray[np.intp]) -> _Assumptions:
        return _Assumptions(
            self.rise[index],
            self.curvature[index],
            self.weights[index],
            self.length[index],
            self.bend[index],
            self.noise[index],
        )


@functools.lru_cache(maxsize=32)
def _assume(quantity: Quantity, axes: int) -> _Assumptions:
    """The same ones each time: they are part of the method, not of a run."""
    rng = np.random.default_rng(20)
    n = ASSUMPTIONS
    low, high = np.log(quantity.rise)
    sparsity = rng.choice([0.3, 1.0, 3.0], size=n)
    weights = np.stack([rng.dirichlet(np.full(axes, s)) for s in sparsity])
    return _Assumptions(
        rise=np.exp(rng.uniform(low, high, n)),
        curvature=rng.choice(quantity.curvature, (n, axes)),
        weights=weights,
        length=rng.choice([0.5, 1.0, 2.0], n),
        bend=rng.choice([0.15, 0.3, 0.6], n),
        noise=rng.choice(quantity.noise, n),
    )


def _covariance(a: _Assumptions, offset: float, x: Floats, y: Floats) -> Floats:
    """Prior covariance (n, len(x), len(y)): a constant, a slope on each axis, a smooth bend."""
    power = a.curvature[:, None, :]
    x, y = x[None] ** power, y[None] ** power
    scale = a.weights[:, None, :]
    slopes = (x * scale**2) @ y.swapaxes(1, 2)
    stretch = np.sqrt(scale * x.shape[-1])  # an axis that matters little bends little
    squared = squared_distances(x * stretch, y * stretch)
    smooth = squared_exponential(squared, a.length[:, None, None])
    rise, bend = a.rise[:, None, None], a.bend[:, None, None]
    return offset**2 + rise**2 * (0.5 * slopes + bend**2 * smooth)


def _mean(a: _Assumptions, x: Floats) -> Floats:
    return a.rise[:, None] * (x[None] ** a.curvature[:, None, :] @ a.weights[:, :, None])[..., 0]


def _fit(a: _Assumptions, offset: float, measured: Floats, values: Floats) -> Process:
    """What was measured, under each assumption."""
    covariance = _covariance(a, offset, measured, measured)
    covariance += (a.noise**2)[:, None, None] * np.eye(len(values))
    return Process.of(covariance, values[None] - _mean(a, measured))


def predict(
    quantity: Quantity, measured: Floats, values: Floats, asked: Floats
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the quantity, nugget included, (k,) each.

    Args:
        quantity: what is known beforehand.
        measured: levels (m, d) of what was measured, m >= 1.
        values: what came out, (m,).
        asked: levels (k, d).
    """
    a = _assume(quantity, measured.shape[1])
    process = _fit(a, quantity.offset, measured, values)
    evidence = process.evidence
    best = np.argsort(-evidence, kind="stable")[:KEPT]
    weights = np.exp(evidence[best] - evidence[best[0]])
    weights /= weights.sum()
    a = a.pick(best)
    change, known = process.pick(best).predict(_covariance(a, quantity.offset, measured, asked))
    means = _mean(a, asked) + change
    prior = _prior_variance(a, quantity.offset, asked)
    variances = np.maximum(prior - known, 0) + (a.noise**2)[:, None]
    mean = weights @ means
    variance = weights @ (variances + means**2) - mean**2
    return constrain(measured, values, asked, mean, np.sqrt(np.maximum(variance, 1e-12)), quantity)


def _prior_variance(a: _Assumptions, offset: float, x: Floats) -> Floats:
    slopes = ((x[None] ** a.curvature[:, None, :] * a.weights[:, None, :]) ** 2).sum(-1)
    return offset**2 + a.rise[:, None] ** 2 * (0.5 * slopes + a.bend[:, None] ** 2)


def constrain(
    measured: Floats, values: Floats, asked: Floats, mean: Floats, std: Floats, quantity: Quantity
) -> tuple[Floats, Floats]:
    """The monotonicity constraint: holds predictions between what milder and what more aggressive
    measured points gave.

    The slack is the nugget to be expected, or what the measurements themselves show: where they
    contradict the order, the order is believed less.

    Args:
        measured: levels (m, d) of what was measured.
        values: what came out, (m,).
        asked: levels (k, d).
        mean, std: predicted there, (k,) each.
        quantity: what is known beforehand.
    """
    below = (measured[:, None] <= measured[None]).all(-1)  # [i, j]: i at most as aggressive as j
    against = np.where(below, values[:, None] - values[None], 0.0).max()
    nugget = float(np.median(quantity.noise))
    slack = max(nugget, float(against))
    less = (measured[None] <= asked[:, None]).all(-1)
    more = (measured[None] >= asked[:, None]).all(-1)
    low = np.where(less, values[None], -math.inf).max(1) - slack
    high = np.where(more, values[None], math.inf).min(1) + slack
    crossed = low > high
    low, high = np.where(crossed, -math.inf, low), np.where(crossed, math.inf, high)
    width = np.where(np.isfinite(high - low), np.maximum((high - low) / 3, nugget), math.inf)
    return np.clip(mean, low, high), np.minimum(std, width)
