"""The space of candidates that a search walks: named axes, each ordered from mild to aggressive.

A *candidate* is nested as users and files see it, ``{"deepcache": {"cache_interval": 3, ...}}``; a
*point* is the same flat, ``{"deepcache.cache_interval": 3, ...}``, as strategies see it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Value = int | float | bool
Parameters = Mapping[str, Mapping[str, Value]]
Point = Mapping[str, Value]


@dataclass(frozen=True)
class Axis:
    """One parameter.

    Args:
        name: the parameter; in a combined space prefixed with its accelerator.
        values: every value that may be searched, from the mildest (slowest, least loss) to the
            most aggressive (fastest, most loss).
        grid: the values that an exhaustive search over a declared grid tries; a subset, same order.
    """

    name: str
    values: tuple[Value, ...]
    grid: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or not self.grid:
            raise ValueError(f"axis {self.name}: no values: {self.values!r}, grid {self.grid!r}")
        stray = [value for value in self.grid if value not in self.values]
        if stray:
            raise ValueError(f"axis {self.name}: grid values {stray} are not among {self.values}")


COARSE = 3
"""Values that are left of an axis in a coarse grid: its ends and what lies between."""


def _thinned(grid: tuple[Value, ...]) -> tuple[Value, ...]:
    """At most `COARSE` of the values, evenly taken, the first and the last among them."""
    if len(grid) <= COARSE:
        return grid
    return tuple(grid[round(i * (len(grid) - 1) / (COARSE - 1))] for i in range(COARSE))


@dataclass(frozen=True)
class Space:
    """A product of axes less the points that ``forbids`` gives a reason against."""

    axes: tuple[Axis, ...]
    forbids: Callable[[Point], str | None] = lambda point: None

    def on_grid(self) -> Space:
        """The same space, of which nothing but the declared grid is left."""
        axes = tuple(Axis(axis.name, axis.grid, axis.grid) for axis in self.axes)
        return dataclasses.replace(self, axes=axes)

    def searched(self, which: str, *, combined: bool) -> Space:
        """What of it may be tried: ``full``, ``grid``, or ``coarse``, which thins combinations."""
        if which == "coarse" and combined:
            return self.coarse()
        return self if which == "full" else self.on_grid()

    def coarse(self) -> Space:
        """The declared grid, of which few values an axis are left, so that even the product of
        several accelerators can be measured as a whole."""
        axes = (Axis(axis.name, few := _thinned(axis.grid), few) for axis in self.axes)
        return dataclasses.replace(self, axes=tuple(axes))

    @property
    def size(self) -> int:
        """Number of points before any is forbidden."""
        return math.prod(len(axis.values) for axis in self.axes)

    def points(self, *, grid: bool = False) -> Iterator[dict[str, Value]]:
        """Every allowed point, mildest first; with ``grid``, of the declared grid alone."""
        names = [axis.name for axis in self.axes]
        columns = [axis.grid if grid else axis.values for axis in self.axes]
        for values in itertools.product(*columns):
            point = dict(zip(names, values, strict=True))
            if self.forbids(point) is None:
                yield point

    def holds(self, point: Point) -> bool:
        """Whether a point lies in this space; what ``forbids`` says is not asked."""
        return len(point) == len(self.axes) and all(
            axis.name in point and point[axis.name] in axis.values for axis in self.axes
        )

    def levels(self, point: Point) -> tuple[float, ...]:
        """Where a point lies on each axis: 0.0 the mildest value, 1.0 the most aggressive."""
        return tuple(
            axis.values.index(point[axis.name]) / max(1, len(axis.values) - 1) for axis in self.axes
        )


def flatten(parameters: Parameters) -> dict[str, Value]:
    """A nested candidate as a point."""
    return {
        f"{name}.{field}": value
        for name, part in parameters.items()
        for field, value in part.items()
    }


def in_words(parameters: Parameters) -> str:
    """A candidate on a line: ``deepcache.cache_interval=3 deepcache.cache_branch_id=0``."""
    return " ".join(f"{name}={value}" for name, value in flatten(parameters).items())


def nest(point: Point) -> dict[str, dict[str, Value]]:
    """A point as a nested candidate."""
    parameters: dict[str, dict[str, Value]] = {}
    for key, value in point.items():
        name, field = key.split(".", 1)
        parameters.setdefault(name, {})[field] = value
    return parameters


ParametersDict = dict[str, dict[str, Value]]
