"""A small regression that knows what is known of accelerators: more aggressive is usually more.

Gaussian processes over the levels of `Space` (0 mild, 1 aggressive on each axis), averaged over a
fixed set of assumptions about which axes matter, how strongly and how curved, each weighted by how
well it explains the measurements (Bayesian model averaging; Rasmussen & Williams, "Gaussian
Processes for Machine Learning", 2006, sections 2.2 and 5.2). What the measurements around a point
say by monotonicity narrows the prediction further.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ASSUMPTIONS = 600
KEPT = 16


@dataclass(frozen=True)
class Quantity:
    """What is known of a quantity before anything is measured; all in the quantity's own unit.

    Args:
        rise: range of what all axes together may add, from mildest to most aggressive.
        curvature: exponents on the levels: below 1 early, above 1 late effect.
        offset: standard deviation of its value at the mildest point, around 0.
        noise: standard deviations of its roughness from point to point.
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
    """The same generates each time: they are part of the method, not of a run."""
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


def _kernel(a: _Assumptions, offset: float, x: Floats, y: Floats) -> Floats:
    """Prior covariance (n, len(x), len(y)): a constant, a slope on each axis, a smooth bend."""
    power = a.curvature[:, None, :]
    x, y = x[None] ** power, y[None] ** power
    scale = a.weights[:, None, :]
    slopes = (x * scale**2) @ y.swapaxes(1, 2)
    stretch = np.sqrt(scale * x.shape[-1])  # an axis that matters little bends little
    u, v = x * stretch, y * stretch
    distance = (u**2).sum(-1)[:, :, None] + (v**2).sum(-1)[:, None, :] - 2 * u @ v.swapaxes(1, 2)
    smooth = np.exp(-0.5 * np.maximum(distance, 0) / a.length[:, None, None] ** 2)
    rise, bend = a.rise[:, None, None], a.bend[:, None, None]
    return offset**2 + rise**2 * (0.5 * slopes + bend**2 * smooth)


def _mean(a: _Assumptions, x: Floats) -> Floats:
    return a.rise[:, None] * (x[None] ** a.curvature[:, None, :] @ a.weights[:, :, None])[..., 0]


def _fit(
    a: _Assumptions, offset: float, measured: Floats, values: Floats
) -> tuple[Floats, Floats, Floats]:
    """Under each assumption: the Cholesky factor, the whitened residuals, the log evidence."""
    gram = _kernel(a, offset, measured, measured)
    gram += (a.noise**2)[:, None, None] * np.eye(len(values))
    chol = np.linalg.cholesky(gram).astype(np.float64)
    rest = (values[None] - _mean(a, measured))[..., None]
    half = np.asarray(np.linalg.solve(chol, rest)[..., 0], dtype=np.float64)
    spread = np.log(np.diagonal(chol, axis1=1, axis2=2)).sum(1)
    evidence: Floats = -0.5 * (half**2).sum(1) - spread
    return chol, half, evidence


def predict(
    quantity: Quantity, measured: Floats, values: Floats, asked: Floats
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the quantity, roughness included.

    Args:
        quantity: what is known beforehand.
        measured: levels (m, d) of what was measured, m >= 1.
        values: what came out, (m,).
        asked: levels (k, d).
    """
    a = _assume(quantity, measured.shape[1])
    chol, half, evidence = _fit(a, quantity.offset, measured, values)
    best = np.argsort(-evidence, kind="stable")[:KEPT]
    share = np.exp(evidence[best] - evidence[best[0]])
    share /= share.sum()
    a = a.pick(best)
    cross = _kernel(a, quantity.offset, measured, asked)
    solved = np.linalg.solve(chol[best], cross)
    means = _mean(a, asked) + np.einsum("nmk,nm->nk", solved, half[best])
    prior = _prior_variance(a, quantity.offset, asked)
    variances = np.maximum(prior - (solved**2).sum(1), 0) + (a.noise**2)[:, None]
    mean = share @ means
    variance = share @ (variances + means**2) - mean**2
    return narrow(measured, values, asked, mean, np.sqrt(np.maximum(variance, 1e-12)), quantity)


def _prior_variance(a: _Assumptions, offset: float, x: Floats) -> Floats:
    slopes = ((x[None] ** a.curvature[:, None, :] * a.weights[:, None, :]) ** 2).sum(-1)
    return offset**2 + a.rise[:, None] ** 2 * (0.5 * slopes + a.bend[:, None] ** 2)


def narrow(
    measured: Floats, values: Floats, asked: Floats, mean: Floats, std: Floats, quantity: Quantity
) -> tuple[Floats, Floats]:
    """Holds predictions between what milder and what more aggressive measured points gave.

    The slack is the roughness to be expected, or what the measurements themselves show: where
    they contradict the order, the order is believed less.
    """
    below = (measured[:, None] <= measured[None]).all(-1)  # [i, j]: i at most as aggressive as j
    against = np.where(below, values[:, None] - values[None], 0.0).max()
    rough = float(np.median(quantity.noise))
    slack = max(rough, float(against))
    less = (measured[None] <= asked[:, None]).all(-1)
    more = (measured[None] >= asked[:, None]).all(-1)
    low = np.where(less, values[None], -math.inf).max(1) - slack
    high = np.where(more, values[None], math.inf).min(1) + slack
    crossed = low > high
    low, high = np.where(crossed, -math.inf, low), np.where(crossed, math.inf, high)
    width = np.where(np.isfinite(high - low), np.maximum((high - low) / 3, rough), math.inf)
    return np.clip(mean, low, high), np.minimum(std, width)
