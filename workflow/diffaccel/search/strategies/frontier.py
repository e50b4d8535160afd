"""Finds the bound and the least loss for each target with few measurements;
docs/explanation/searching.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from diffaccel.plugins.space import Point, Space
from diffaccel.search import pareto
from diffaccel.search.acquisition import (
    EXACT,
    MARGIN,
    MEETING,
    UNSURE,
    Posterior,
    acquisition_values,
)
from diffaccel.search.gaussian import Floats
from diffaccel.search.losses import LossModel, scaled
from diffaccel.search.strategies import _candidates as candidates
from diffaccel.search.strategies._surrogate import Quantity, predict
from diffaccel.search.strategies.base import Observation, Problem, Strategy

Row = tuple[int, ...]
"""A point as value indices."""
Known = list[tuple[Row, Observation]]

LOG_SPEEDUP = Quantity(
    rise=(0.02, 2.0), curvature=(0.5, 1.0, 2.0), offset=0.05, noise=(0.01, 0.02, 0.04)
)
MIDDLE = 0.5
"""Level on each axis of the first point."""
GAINED = 1.1
"""Speedup below which the search does not end before it has tried each axis alone."""
CAP = 120
"""Measurements of one cell, at most; less where a quarter of the grid is less."""
CONTAMINATION_WEIGHT = 0.2
"""Share of the candidates whose loss is nothing like what those near them let expect, where there
are such: accelerators repair each other's errors where their steps happen to fit."""
HOPED = 0.5
"""What is worth an evaluation only as long as its speed is not known is worth less than this by the
speed that is expected."""
FEWEST = 6
FEW_AXES = 2


def _posterior(problem: Problem, known: Known, rows: candidates.Indices) -> Posterior:
    """What measuring some points would give."""
    points = [candidates.point_of(problem.space, row) for row in rows]
    losses = problem.losses
    if losses is None:
        evaluated = [(o.point, o.loss) for _, o in known]
        losses = LossModel(problem.space, problem.loss_limit, evaluated).predict
    loss, loss_std = losses(points)
    if problem.speeds is None:
        done = np.array([row for row, _ in known], dtype=np.intp)
        seen, at = (candidates.levels(problem.space, each) for each in (done, rows))
        speed, speed_std = _speeds(known, seen, at)
    else:
        speed, speed_std = problem.speeds(points)
    limit = scaled(problem.loss_limit, problem.loss_limit)
    weight = CONTAMINATION_WEIGHT if problem.contaminated else 0.0
    return Posterior(speed, speed_std, loss, loss_std, limit, weight)


def _speeds(known: Known, seen: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Log-speedups as far as the measured ones tell; nothing where all of them failed."""
    speeds = np.array([o.speedup for _, o in known])
    timed = np.isfinite(speeds) & (speeds > 0)
    if not timed.any():
        return np.zeros(len(at)), np.full(len(at), LOG_SPEEDUP.rise[1])
    return predict(LOG_SPEEDUP, seen[timed], np.log(speeds[timed]), at)


def _cap(space: Space, bound: bool) -> int:
    grid = math.prod(len(axis.grid) for axis in space.axes)
    cap = min(CAP, max(FEWEST, grid // 4))
    return cap if bound else 2 * cap


def _total(problem: Problem, known: Known, posterior: Posterior) -> Floats:
    """The acquisition value of each candidate to all questions together, (n,)."""
    history = [o for _, o in known]
    total: Floats = np.sum(acquisition_values(problem, history, posterior), axis=0)
    return total


def _costs(problem: Problem, posterior: Posterior) -> Floats:
    """What evaluating each is expected to cost, in units of the baseline pipeline, (n,): most of
    what loses too much is not evaluated to the end, and what is faster is evaluated faster. Where
    losses are as predicted, most of what is asked for is evaluated to the end, and it is the number
    of evaluations that ends a search."""
    if not problem.contaminated:
        return np.ones(len(posterior.speed))
    feasible = posterior.probability_of_feasibility()
    evaluated = problem.analysis + (1 - problem.analysis) * feasible
    return evaluated * np.exp(-posterior.speed)


class Frontier(Strategy):
    """Asks for what is expected to move the bound, or a target's least loss, the most."""

    name: ClassVar[str] = "frontier"

    def at_most(self, space: Space) -> int:
        return _cap(space, bound=True)

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        known = _known(problem.space, history)
        cap = _cap(problem.space, problem.bound)
        left = min(cap - len(known), problem.room(len(known)))
        chosen = self._plan(problem, known)[: max(0, left)]
        return [candidates.point_of(problem.space, row) for row in chosen]

    def unsure(
        self, problem: Problem, history: Sequence[Observation], points: Sequence[Point]
    ) -> list[Point]:
        known = _known(problem.space, history)
        if problem.speeds is None or not known or len(points) != 1:
            return []  # points asked for together are asked for whatever their speed
        row = candidates.row_of(problem.space, points[0])
        posterior = _posterior(problem, known, np.array([row], dtype=np.intp))
        certain = replace(posterior, speed_std=np.full(1, EXACT))
        hoped = _total(problem, known, posterior) >= 1 and _total(problem, known, certain) < HOPED
        return list(points) if hoped and posterior.speed_std[0] > UNSURE else []

    def _plan(self, problem: Problem, known: Known) -> list[Row]:
        """What to measure next: the middle of the diagonal where nothing is known, then what is
        worth it, one at a time."""
        pool = candidates.pool(problem.space, problem.seed)
        if len(pool) and not known and not problem.informed:
            return [candidates.toward(problem.space, pool, MIDDLE)]
        fresh = self._fresh(problem, known, pool)
        if not len(fresh):
            return []
        few = problem.bound and len(problem.space.axes) <= FEW_AXES
        if few and known and (flips := self._without_one(problem, pool, fresh)):
            return flips
        posterior = _posterior(problem, known, fresh)
        values = _total(problem, known, posterior)
        if values.max() >= 1:
            best = np.where(values >= 1, values / _costs(problem, posterior), 0.0).argmax()
            return [tuple(fresh[best].tolist())]
        if known and problem.bound and max(o.speedup for _, o in known) < GAINED:
            if problem.speeds is not None:
                # Levels alone do not tell well enough what gains nothing.
                faster = posterior.probability_of_improvement(math.exp(MARGIN))
                fresh = fresh[faster >= MEETING]
            return self._without_one(problem, pool, fresh)[:1]
        return []

    def _without_one(
        self, problem: Problem, pool: candidates.Indices, fresh: candidates.Indices
    ) -> list[Row]:
        """The most aggressive corner with one axis at its mildest: which of them costs the loss,
        and which the speed. A point on the diagonal cannot tell; of few axes it is asked at once,
        of many where all together gain nothing."""
        corner = candidates.toward(problem.space, pool, 1.0)
        flips = {(*corner[:axis], 0, *corner[axis + 1 :]) for axis in range(len(corner))}
        return [row for row in map(tuple, fresh.tolist()) if row in flips]

    def _fresh(
        self, problem: Problem, known: Known, pool: candidates.Indices
    ) -> candidates.Indices:
        """What may be asked: all of a small space; of a large one a sample, and what lies around
        the best of the sample and around the measured front."""
        shape = (len(known), len(problem.space.axes))
        done = np.array([row for row, _ in known], dtype=np.intp).reshape(shape)
        fresh = candidates.without(pool, done)
        if candidates.is_small(problem.space) or not len(fresh):
            return fresh
        promising = [int(np.argmax(v)) for v in self._values(problem, known, fresh)]
        front = {id(o) for o in pareto.front([o for _, o in known])}
        good = done[np.array([id(o) in front for _, o in known], dtype=bool)]
        more = candidates.around(problem.space, np.concatenate([fresh[promising], good]))
        return candidates.without(np.concatenate([fresh, more]), done)

    def _values(self, problem: Problem, known: Known, rows: candidates.Indices) -> list[Floats]:
        history = [o for _, o in known]
        return acquisition_values(problem, history, _posterior(problem, known, rows))


def _known(space: Space, history: Sequence[Observation]) -> Known:
    """The history as rows of this space, in order; points of other spaces say nothing here."""
    rows = {candidates.row_of(space, o.point): o for o in history}
    return [(row, o) for row, o in rows.items() if row is not None]


PLUGIN = Frontier()
