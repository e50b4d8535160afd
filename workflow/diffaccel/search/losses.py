"""Predicts losses: what a few evaluated candidates of a cell, and of its members' cells, say of
others.

Losses are seen as asinh(loss / limit): linear near zero, logarithmic beyond the limit. A single
accelerator's loss is a regression over its levels (`_surrogate`). A combination's is expected to be
the norm of what its members lose, as distances in independent directions add up. What was evaluated
of the combination itself corrects that: a Gaussian process of the differences (Rasmussen &
Williams, "Gaussian Processes for Machine Learning", 2006, section 2.7).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from diffaccel.plugins.space import Point, Space
from diffaccel.search.gaussian import Floats, Process, squared_distances, squared_exponential
from diffaccel.search.strategies import _candidates as candidates
from diffaccel.search.strategies._surrogate import Quantity, constrain, predict

LOSS = Quantity(rise=(0.1, 4.0), curvature=(1.0, 2.0, 4.0), offset=0.2, noise=(0.05, 0.15, 0.3))
WORST = math.asinh(10.0)
SMALLEST_SCALE = 1e-3
"""Losses are seen in units of the limit, or of this where the limit is smaller."""
NORM = 2.0
BIAS, BEND, LENGTH, NUGGET = 0.3, 0.5, 0.5, 0.2
"""Of a combination's difference from the norm of its members: standard deviation of what all its
candidates have in common, of what near ones have, how near in levels, and of what each has
alone."""


def scaled(loss: float, limit: float) -> float:
    """A loss as it is modelled; what crashed is among the worst."""
    if not math.isfinite(loss):
        return WORST
    return max(-WORST, min(math.asinh(loss / max(limit, SMALLEST_SCALE)), WORST))


@dataclass(frozen=True, eq=False)
class LossModel:
    """What is known of the losses of one cell.

    Args:
        space: every value of each parameter, in order of aggressiveness.
        limit: the loss limit, the unit in which losses are seen.
        evaluated: points of the space and their losses; infinite where one failed.
        parts: models of cells that the combination consists of, each accelerator in one.
    """

    space: Space
    limit: float
    evaluated: Sequence[tuple[Point, float]]
    parts: Sequence[LossModel] = field(default=())

    def predict(self, points: Sequence[Point]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the scaled losses, (n,) each."""
        asked = self._levels(points)
        if not self.parts:
            if not self.evaluated:
                return np.full(len(points), 1.0), np.full(len(points), LOSS.rise[1] / 2)
            return predict(LOSS, self._seen, self._values, asked)
        expected, unsure = self._expected(points)
        if not self.evaluated:
            return expected, np.sqrt(unsure**2 + BIAS**2 + BEND**2 + NUGGET**2)
        off, spread = self._difference(asked)
        mean, std = expected + off, np.sqrt(unsure**2 + spread**2)
        return constrain(self._seen, self._values, asked, mean, std, LOSS)

    def _levels(self, points: Sequence[Point]) -> Floats:
        rows = [
            [axis.values.index(point[axis.name]) for axis in self.space.axes] for point in points
        ]
        shape = (len(points), len(self.space.axes))
        return candidates.levels(self.space, np.array(rows, dtype=np.intp).reshape(shape))

    @functools.cached_property
    def _seen(self) -> Floats:
        return self._levels([point for point, _ in self.evaluated])

    @functools.cached_property
    def _values(self) -> Floats:
        return np.array([scaled(loss, self.limit) for _, loss in self.evaluated])

    def _expected(self, points: Sequence[Point]) -> tuple[Floats, Floats]:
        """The norm of what the parts lose, and how unsure that is."""
        each = [part.of_larger(points) for part in self.parts]
        losses = np.stack([np.sinh(np.maximum(mean, 0.0)) for mean, _ in each])
        norm: Floats = (losses**NORM).sum(0) ** (1 / NORM)
        weights = (losses / np.maximum(norm, 1e-9)) ** NORM
        unsure: Floats = np.sqrt((weights * np.stack([std for _, std in each]) ** 2).sum(0))
        expected: Floats = np.arcsinh(norm)
        return expected, unsure

    def of_larger(self, points: Sequence[Point]) -> tuple[Floats, Floats]:
        """The same for those parts of larger points that lie in this space: mostly few."""
        names = [axis.name for axis in self.space.axes]
        own = [tuple(point[name] for name in names) for point in points]
        place = {values: number for number, values in enumerate(dict.fromkeys(own))}
        mean, std = self.predict([dict(zip(names, values, strict=True)) for values in place])
        back = np.array([place[values] for values in own], dtype=np.intp)
        return mean[back], std[back]

    @functools.cached_property
    def _differences(self) -> Process:
        """Of what was evaluated from what was expected."""
        expected, _ = self._expected([point for point, _ in self.evaluated])
        noise = NUGGET**2 * np.eye(len(self.evaluated))
        return Process.of(_covariance(self._seen, self._seen) + noise, self._values - expected)

    def _difference(self, asked: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of what was asked for from what is expected, (n,) each."""
        mean, known = self._differences.predict(_covariance(self._seen, asked))
        prior = BIAS**2 + BEND**2 + NUGGET**2
        return mean, np.sqrt(np.maximum(prior - known, NUGGET**2))


def _covariance(x: Floats, y: Floats) -> Floats:
    """Of the differences at levels (m, d) and (k, d), without the nugget: (m, k)."""
    return BIAS**2 + BEND**2 * squared_exponential(squared_distances(x, y), LENGTH)
