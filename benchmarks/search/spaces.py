"""Which candidates of a cell a table holds: a product of values spread over the whole space."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from diffaccel.plugins.accelerators import Combination, PipelineSpec
from diffaccel.plugins.space import Axis, Space, Value
from diffaccel.search.strategies import _candidates as candidates

Point = dict[str, Value]


SMALL: dict[str, tuple[Value, ...]] = {
    "deepcache.cache_interval": (2, 3, 4, 5, 6, 10),
    "deepcache.cache_branch_id": (6, 3, 0),
    "tgate.gate_step": (15, 10, 8, 6, 4),
    "tgate.sp_interval": (1, 5),
    "tgate.fi_interval": (1,),
    "tgate.warm_up": (0,),
    "tome.ratio": (0.1, 0.3, 0.5, 0.6, 0.75),
}
"""Values of a small table, for a machine without a GPU, mildest first; other axes keep the mildest
of the grid."""


def recorded(
    accelerators: Combination, pipeline: PipelineSpec, fewest: int | None, *, small: bool = False
) -> list[Point]:
    """The declared grid of one accelerator; of several, their full space thinned to at least
    ``fewest`` candidates that are allowed, or their coarse grid.

    Args:
        small: there are no values but `SMALL`.
    """
    alone = [Combination((member,)).space(pipeline) for member in accelerators.members]
    joint = accelerators.space(pipeline)
    if small:
        alone, joint = [_small(each) for each in alone], _small(joint)
    if len(alone) == 1:
        return list(joint.points(grid=True))
    return list(joint.coarse().points()) if fewest is None else thinned(alone, joint, fewest)


def _small(space: Space) -> Space:
    axes = (
        Axis(axis.name, values, values)
        for axis in space.axes
        for values in [SMALL.get(axis.name, axis.grid[:1])]
    )
    return dataclasses.replace(space, axes=tuple(axes))


def thinned(alone: Sequence[Space], joint: Space, fewest: int) -> list[Point]:
    """The allowed points of a joint space with fewer values on every axis, the ends among them,
    evenly far apart in level.

    Axes keep their proportions: of n values about n**p are left, p being as small as leaves
    ``fewest`` points. An axis of which one value is left keeps the mildest of its declared grid.

    Args:
        alone: the space of each accelerator by itself; together they have the joint one's axes.
    """
    sizes = [len(axis.values) for axis in joint.axes]
    growing = sorted(
        (math.log(count - 0.5) / math.log(size), -size, place)
        for place, size in enumerate(sizes)
        for count in range(2, size + 1)
    )
    counts = [1] * len(sizes)
    found: list[Point] = []
    for _, _, place in growing:
        counts[place] += 1
        if math.prod(counts) >= fewest:
            found = _allowed(alone, joint, counts)
        if len(found) >= fewest:
            break
    # The last step may have doubled what is left: take back what was not needed.
    for place in sorted(range(len(counts)), key=lambda place: -counts[place]):
        fewer = [count - (place == i) for i, count in enumerate(counts)]
        if counts[place] > 2 and len(less := _allowed(alone, joint, fewer)) >= fewest:
            counts, found = fewer, less
    return found


def _allowed(alone: Sequence[Space], joint: Space, counts: Sequence[int]) -> list[Point]:
    """The allowed points of the product of so many values an axis."""
    left = iter(counts)
    parts = []
    for space in alone:
        values = {axis.name: spread(axis, next(left)) for axis in space.axes}
        axes = tuple(Axis(name, chosen, chosen) for name, chosen in values.items())
        parts.append(list(dataclasses.replace(space, axes=axes).points()))
    points = (
        {k: v for part in each for k, v in part.items()} for each in itertools.product(*parts)
    )
    return [point for point in points if joint.forbids(point) is None]


def spread(axis: Axis, count: int) -> tuple[Value, ...]:
    """So many values of an axis, nearest to evenly far apart in level."""
    size = len(axis.values)
    if count == 1:
        return axis.grid[:1]
    at = candidates.levels(Space((axis,)), np.arange(size)[:, None])[:, 0]
    chosen: list[int] = []
    for number, level in enumerate(np.linspace(0, 1, count)):
        # Two levels may be nearest to one value; as many must be left for the levels to come.
        least, most = chosen[-1] + 1 if chosen else 0, size - count + number
        chosen.append(least + int(np.abs(at[least : most + 1] - level).argmin()))
    return tuple(axis.values[i] for i in chosen)


def spanned(points: Sequence[Point], axes: Sequence[Axis]) -> Space:
    """The product of the values that some points have, of which only these points are allowed."""
    known = {tuple(point.values()) for point in points}
    names = list(points[0])
    used = []
    for axis in axes:
        values = tuple(v for v in axis.values if any(p[axis.name] == v for p in points))
        used.append(Axis(axis.name, values, values))
    return Space(
        tuple(used),
        lambda p: None if tuple(p[name] for name in names) in known else "not in the table",
    )


def far_apart(space: Space, points: Sequence[Point], count: int) -> list[Point]:
    """So many of the points, each as far in level from those before it as can be; the first is the
    most aggressive."""
    rows = np.array([candidates.row_of(space, point) for point in points])
    at = candidates.levels(space, rows)
    chosen = [int(at.sum(1).argmax())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        distance = np.minimum(distance, ((at - at[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return [points[i] for i in chosen]
