"""Every point of the declared grid, in order: the reference that other strategies are held to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import ClassVar

from diffaccel.space import Point
from diffaccel.strategies.base import Observation, Problem, Strategy

BATCH = 3


class Exhaustive(Strategy):
    """Measures the whole grid whatever the targets; nothing outside it."""

    name: ClassVar[str] = "exhaustive"
    times_all: ClassVar[bool] = True

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        names = [axis.name for axis in problem.space.axes]
        done = {tuple(o.point.get(name) for name in names) for o in history}
        grid = problem.space.points(grid=True)
        fresh = (point for point in grid if tuple(point.values()) not in done)
        return list(islice(fresh, min(BATCH, problem.room(len(history)))))


PLUGIN = Exhaustive()
