"""Gaussian processes: kernels, Cholesky factors, and what was observed made a prediction.

The models of losses and speeds differ in their priors and in how they are fitted. What they have in
common is here (Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2).
Everything works on one matrix, or on a stack of them, one for each assumption.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

Floats = NDArray[np.float64]


def squared_distances(x: Floats, y: Floats) -> Floats:
    """Of points (..., m, d) from points (..., k, d): (..., m, k).

    Axis by axis: no difference of large numbers, and no array of all differences, (..., m, k, d).
    """
    shape = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    total: Floats = np.zeros((*shape, x.shape[-2], y.shape[-2]))
    for axis in range(x.shape[-1]):
        total += (x[..., :, None, axis] - y[..., None, :, axis]) ** 2
    return total


def squared_exponential(squared: Floats, length: Floats | float) -> Floats:
    """Correlation at squared distances: of smooth functions that change over such a length."""
    correlation: Floats = np.exp(-0.5 * squared / length**2)
    return correlation


def matern(squared: Floats) -> Floats:
    """Correlation at squared distances in units of the length: Matern's of order 3/2, of functions
    with a slope everywhere that need not be smooth."""
    scaled = np.sqrt(3 * squared)
    correlation: Floats = (1 + scaled) * np.exp(-scaled)
    return correlation


@dataclass(frozen=True)
class Factor:
    """The Cholesky factor of a covariance.

    Args:
        lower: lower triangular, (m, m), or a stack of such, (..., m, m).
    """

    lower: Floats

    @classmethod
    def of(cls, covariance: Floats) -> Factor:
        """Factorises a covariance.

        Raises:
            numpy.linalg.LinAlgError: it is not positive definite.
        """
        return cls(np.linalg.cholesky(covariance).astype(np.float64))

    def whiten(self, columns: Floats) -> Floats:
        """The inverse of the factor times columns, (..., m, k)."""
        # numpy solves a stack at once; scipy.linalg.solve_triangular one matrix after the other.
        return np.linalg.solve(self.lower, columns).astype(np.float64)

    def solve(self, values: Floats) -> Floats:
        """The inverse of the covariance times values, (m,) or (m, k). Not of a stack."""
        solved: Floats = cho_solve((self.lower, True), values, check_finite=False)
        return solved

    @functools.cached_property
    def inverse(self) -> Floats:
        """Of the covariance, (m, m). Not of a stack."""
        return self.solve(np.eye(len(self.lower)))

    @property
    def log_determinant(self) -> Floats:
        """Of the covariance, (...)."""
        diagonal = np.diagonal(self.lower, axis1=-2, axis2=-1)
        total: Floats = 2 * np.log(diagonal).sum(-1)
        return total


@dataclass(frozen=True)
class Process:
    """A Gaussian process of which some values were observed.

    Args:
        factor: of the covariance of the observed values, noise included: (..., m, m).
        whitened: how far they are from the prior's means, whitened: (..., m).
    """

    factor: Factor
    whitened: Floats

    @classmethod
    def of(cls, covariance: Floats, differences: Floats) -> Process:
        """Takes in what was observed.

        Args:
            covariance: of the observed values, noise included: (..., m, m).
            differences: of the observed values from the prior's means, (..., m).

        Raises:
            numpy.linalg.LinAlgError: the covariance is not positive definite.
        """
        factor = Factor.of(covariance)
        return cls(factor, factor.whiten(differences[..., None])[..., 0])

    @property
    def evidence(self) -> Floats:
        """Logarithm of the probability of the observed values, less a constant: (...)."""
        evidence: Floats = -0.5 * (self.whitened**2).sum(-1) - 0.5 * self.factor.log_determinant
        return evidence

    def pick(self, index: NDArray[np.intp]) -> Process:
        """Some of a stack."""
        return Process(Factor(self.factor.lower[index]), self.whitened[index])

    def predict(self, cross: Floats) -> tuple[Floats, Floats]:
        """What the observed values say of k others: by how much their means are off from the
        prior's, and by how much their variances are smaller, (..., k) each.

        Args:
            cross: prior covariances of the observed values with the others, (..., m, k).
        """
        solved = self.factor.whiten(cross)
        change: Floats = (solved.swapaxes(-1, -2) @ self.whitened[..., None])[..., 0]
        known: Floats = (solved**2).sum(-2)
        return change, known
