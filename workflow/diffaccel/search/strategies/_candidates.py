"""Which points of a space are worth considering, as rows of value indices, one column an axis."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffaccel.plugins.space import Axis, Point, Space, Value

Indices = NDArray[np.intp]

LARGEST = 2000
"""Spaces up to this size are considered whole, larger ones by a sample of about it."""
DRAWS = 1500
ROUNDS = 8
"""Points drawn at a time, and times at most: much of a combined space may be forbidden."""


def sizes(space: Space) -> Indices:
    """The number of values on each axis."""
    return np.array([len(axis.values) for axis in space.axes], dtype=np.intp)


@functools.lru_cache(maxsize=256)
def _scale(axis: Axis) -> NDArray[np.float64]:
    """The level of each value, 0 to 1: those of the declared grid, and the ends, equally far apart.

    A grid is denser where a parameter's effect is; `Space.levels` would spread it evenly.
    """
    last = len(axis.values) - 1
    knots = sorted({0, last, *(axis.values.index(value) for value in axis.grid)})
    return np.interp(np.arange(last + 1), knots, np.linspace(0, 1 if last else 0, len(knots)))


def levels(space: Space, rows: Indices) -> NDArray[np.float64]:
    """Where points lie on each axis: 0 the mildest value, 1 the most aggressive."""
    columns = [_scale(axis)[rows[:, i]] for i, axis in enumerate(space.axes)]
    return np.stack(columns, axis=1)


def _nearest(space: Space, wanted: NDArray[np.float64]) -> Indices:
    """The points, allowed or not, nearest to some levels."""
    columns = [
        np.abs(_scale(axis)[None] - wanted[:, [i]]).argmin(1) for i, axis in enumerate(space.axes)
    ]
    return np.stack(columns, axis=1)


def point_of(space: Space, row: Sequence[int] | Indices) -> dict[str, Value]:
    return {axis.name: axis.values[int(i)] for axis, i in zip(space.axes, row, strict=True)}


def row_of(space: Space, point: Point) -> tuple[int, ...] | None:
    """A point as value indices; None when it is not of this space."""
    if point.keys() != {axis.name for axis in space.axes}:
        return None
    try:
        return tuple(axis.values.index(point[axis.name]) for axis in space.axes)
    except ValueError:
        return None


def is_small(space: Space) -> bool:
    """Whether `pool` holds the whole space."""
    return math.prod(sizes(space).tolist()) <= LARGEST


def without(rows: Indices, done: Indices) -> Indices:
    """The rows that are not among those done, each once, in order."""
    taken = {tuple(row) for row in done.tolist()}
    unique = np.unique(rows, axis=0)
    return unique[np.array([tuple(row) not in taken for row in unique.tolist()], dtype=bool)]


def _allowed(space: Space, rows: Indices) -> Indices:
    """Those the space does not forbid, each once, in order."""
    unique = np.unique(rows, axis=0)
    keep = [space.forbids(point_of(space, row)) is None for row in unique]
    return unique[np.array(keep, dtype=bool)]


def around(space: Space, rows: Indices) -> Indices:
    """All allowed points that differ from one of the rows on one axis at most."""
    moved = [rows]
    for axis, size in enumerate(sizes(space)):
        lines = np.repeat(rows, size, axis=0)
        lines[:, axis] = np.tile(np.arange(size), len(rows))
        moved.append(lines)
    return _allowed(space, np.concatenate(moved))


def toward(space: Space, rows: Indices, level: float) -> tuple[int, ...]:
    """An allowed point near to a level on every axis: the nearest of the rows, then axis by axis
    as long as that comes nearer."""

    def distance(points: Indices) -> NDArray[np.float64]:
        away: NDArray[np.float64] = ((levels(space, points) - level) ** 2).sum(1)
        return away

    near = rows[[int(distance(rows).argmin())]]
    while True:
        lines = around(space, near)
        away = distance(lines)
        if away.min() >= distance(near)[0]:
            return tuple(near[0].tolist())
        near = lines[[int(away.argmin())]]


def _draw(space: Space, rng: np.random.Generator) -> Indices:
    """Points anywhere, along the diagonal, and of the declared grid; forbidden ones among them."""
    shape = (DRAWS // 3, len(space.axes))
    anywhere = rng.uniform(0, 1, shape)
    along = rng.uniform(0, 1, (shape[0], 1)) + rng.normal(0, 0.25, shape)
    grid = [
        rng.choice([axis.values.index(value) for value in axis.grid], shape[0])
        for axis in space.axes
    ]
    drawn = [_nearest(space, anywhere), _nearest(space, along), np.stack(grid, axis=1)]
    return np.concatenate(drawn)


@functools.lru_cache(maxsize=16)
def pool(space: Space, seed: int) -> Indices:
    """The allowed points of a small space; of a large one the diagonal and a sample."""
    count = sizes(space)
    if is_small(space):
        every = np.indices(tuple(count.tolist())).reshape(len(count), -1).T
        return _allowed(space, every)
    rng = np.random.default_rng(seed)
    diagonal = _nearest(space, np.tile(np.linspace(0, 1, 17)[:, None], len(count)))
    found = around(space, diagonal[::4])
    for _ in range(ROUNDS):
        found = np.unique(np.concatenate([found, _allowed(space, _draw(space, rng))]), axis=0)
        if len(found) >= LARGEST:
            break
    return found
