"""What a search strategy is: a pure function from what was measured to what to measure next."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from diffaccel.plugins.space import Point, Space
from diffaccel.search.gaussian import Floats

Predict = Callable[[Sequence[Point]], tuple[Floats, Floats]]
"""Means and standard deviations of a quantity at some points."""


@dataclass(frozen=True)
class Observation:
    """A point whose loss was measured: speedup (ratio, 1.0 is the baseline), measured or else
    predicted, and relative loss of the score.

    A candidate that failed (crash, NaN images) is an observation with ``loss = inf``.
    """

    point: Point
    speedup: float
    loss: float


@dataclass(frozen=True)
class Problem:
    """What is to be decided in one cell.

    Args:
        space: the candidates that may be tried.
        loss_limit: a candidate is good when its loss is strictly below.
        targets: required speedups, each to be met with the least loss.
        bound: whether the largest speedup within the limit is asked for too.
        seed: for strategies that choose at random.
        speeds: predicts the log-speedups of points; None: the strategy has nothing but the history.
        losses: predicts the losses of points, as `diffaccel.search.losses` scales them; likewise.
        informed: whether ``losses`` knows something before anything is measured here.
        contaminated: whether losses may be nothing like what those of similar points let expect.
        analysis: share of the prompts that are enough to see that a point loses far too much.
        max_measurements: no more than this many in all, the history's included; None: as many as
            the strategy thinks fit.
    """

    space: Space
    loss_limit: float
    targets: tuple[float, ...] = ()
    bound: bool = True
    seed: int = 0
    speeds: Predict | None = None
    losses: Predict | None = None
    informed: bool = False
    contaminated: bool = False
    analysis: float = 1.0
    max_measurements: int | None = None

    def room(self, measured: int) -> int:
        """How many more may be measured."""
        if self.max_measurements is None:
            return sys.maxsize
        return max(0, self.max_measurements - measured)


class Strategy(ABC):
    """One way to search; the instance ``PLUGIN`` of a file is the plugin. Stateless, no torch."""

    name: ClassVar[str]
    times_all: ClassVar[bool] = False
    """Whether every point that it asks for is timed, rather than those that may be chosen."""

    def at_most(self, space: Space) -> int:
        """How many points it asks for at most to find a bound."""
        return space.size

    @abstractmethod
    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        """The points to measure next, best first; empty when nothing is worth measuring any more.

        Never a point of the history. The same arguments always give the same answer, so that a
        search that was interrupted goes on as if it had not been.
        """

    def unsure(
        self, problem: Problem, history: Sequence[Observation], points: Sequence[Point]
    ) -> list[Point]:
        """Those of the points asked for that are worth measuring only as long as their speed is not
        known: it is timed before they are evaluated."""
        return []
