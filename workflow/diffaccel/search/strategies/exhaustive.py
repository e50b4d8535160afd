"""Every point of the declared grid, in order: the reference that other strategies are held to."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import islice
from typing import ClassVar

from diffaccel.plugins.space import Point, Space, Value
from diffaccel.search.strategies.base import Observation, Problem, Strategy

BATCH = 3


class Exhaustive(Strategy):
    """Measures the whole grid whatever the targets; nothing outside it."""

    name: ClassVar[str] = "exhaustive"
    times_all: ClassVar[bool] = True

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        names = [axis.name for axis in problem.space.axes]
        done = {tuple(o.point.get(name) for name in names) for o in history}
        fresh = (point for key, point in _grid(problem.space).items() if key not in done)
        return list(islice(fresh, min(BATCH, problem.room(len(history)))))


@functools.lru_cache(maxsize=16)
def _grid(space: Space) -> dict[tuple[Value, ...], Point]:
    """The declared grid by its values. What is forbidden is asked once of each point: a space of
    several accelerators has thousands, and they are asked for a few at a time."""
    return {tuple(point.values()): point for point in space.points(grid=True)}


PLUGIN = Exhaustive()
