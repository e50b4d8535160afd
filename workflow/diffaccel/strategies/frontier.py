"""Finds the bound and the least loss for each target with few measurements; docs/searching.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from diffaccel import pareto
from diffaccel.space import Point
from diffaccel.strategies import _candidates as candidates
from diffaccel.strategies._surrogate import Quantity, predict
from diffaccel.strategies.base import Observation, Problem, Strategy

Floats = NDArray[np.float64]

LOG_SPEEDUP = Quantity(
    rise=(0.02, 2.0), curvature=(0.5, 1.0, 2.0), offset=0.05, noise=(0.01, 0.02, 0.04)
)
LOSS = Quantity(  # as asinh(loss / limit): linear near zero, logarithmic beyond the limit
    rise=(0.1, 4.0), curvature=(1.0, 2.0, 4.0), offset=0.2, noise=(0.05, 0.15, 0.3)
)
AT_LIMIT = math.asinh(1.0)
WORST = math.asinh(10.0)

FIRST = (1.0, 0.5, 0.25)
"""Levels of the first points on the diagonal: the most aggressive corner, then milder ones."""
MARGIN = 0.01
FASTER = 0.002
"""Expected gain of the bound, in log-speedup, that is worth a measurement."""
LESS_LOSS = 0.1
"""Expected reduction of a target's loss, as a share of the limit, that is worth a measurement."""
MEETING = 0.1
"""Probability of meeting an open target that is worth a measurement."""
CAP = 20
"""Measurements of one cell, at most; less where a quarter of the grid is less."""
FEWEST = 6


@dataclass(frozen=True)
class Forecast:
    """Of each candidate: log-speedup and transformed loss, means and standard deviations."""

    speed: Floats
    speed_std: Floats
    loss: Floats
    loss_std: Floats

    def within(self) -> Floats:
        """Probability that the loss is below the limit."""
        return _below((AT_LIMIT - self.loss) / self.loss_std)

    def reaches(self, speedup: float) -> Floats:
        """Probability of at least that speedup."""
        return _below((self.speed - math.log(speedup)) / self.speed_std)


def _below(z: Floats) -> Floats:
    """The normal distribution's cumulative probability (logistic approximation, error < 2e-4).

    Source: Page, "Approximations to the cumulative normal function", Applied Statistics 26, 1977.
    """
    z = np.clip(z, -8, 8)
    result: Floats = 1 / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * z * (1 + 0.044715 * z**2)))
    return result


def _excess(mean: Floats, std: Floats) -> Floats:
    """Expected value of max(0, X) for a normal X: expected improvement."""
    z = mean / std
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.maximum(0.0, mean * _below(z) + std * density)


def _scaled(loss: float, limit: float) -> float:
    return min(math.asinh(loss / limit), WORST) if math.isfinite(loss) else WORST


def _forecast(problem: Problem, seen: Floats, history: list[Observation], at: Floats) -> Forecast:
    timed = [i for i, o in enumerate(history) if math.isfinite(o.speedup) and o.speedup > 0]
    speeds = np.array([math.log(history[i].speedup) for i in timed])
    losses = np.array([_scaled(o.loss, problem.loss_limit) for o in history])
    if timed:
        speed, speed_std = predict(LOG_SPEEDUP, seen[timed], speeds, at)
    else:
        speed, speed_std = np.zeros(len(at)), np.full(len(at), LOG_SPEEDUP.rise[1])
    loss, loss_std = predict(LOSS, seen, losses, at)
    return Forecast(speed, speed_std, loss, loss_std)


def _worth(problem: Problem, history: list[Observation], f: Forecast) -> list[Floats]:
    """For each question, what each candidate is worth to it; at 1.0 it deserves measuring."""
    limit = problem.loss_limit
    within = f.within()
    fastest = pareto.bound(history, limit)
    worths = []
    if problem.bound:
        held = math.log(fastest.speedup) if fastest else -0.1
        worths.append(within * _excess(f.speed - held - MARGIN, f.speed_std) / FASTER)
    for target in problem.targets:
        best = pareto.meet(history, target, limit)
        if best is None:
            worths.append(f.reaches(target) * within / MEETING)
            continue
        held = math.asinh(max(best.loss, 0.0) / limit)
        lower = _excess(held - f.loss, f.loss_std) - _excess(-f.loss, f.loss_std)
        worths.append(f.reaches(target) * lower / LESS_LOSS)
    return worths


def _cap(problem: Problem) -> int:
    grid = math.prod(len(axis.grid) for axis in problem.space.axes)
    cap = min(CAP, max(FEWEST, grid // 4))
    return cap if problem.bound else 2 * cap


class Frontier(Strategy):
    """Asks for what is expected to move the bound, or a target's least loss, the most."""

    name: ClassVar[str] = "frontier"

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        space = problem.space
        rows = {candidates.row_of(space, o.point): o for o in history}
        rows.pop(None, None)
        left = _cap(problem) - len(rows)
        pool = candidates.pool(space, problem.seed)
        if left <= 0 or not len(pool):
            return []
        done = np.array(list(rows), dtype=np.intp).reshape(len(rows), len(space.axes))
        known = list(rows.values())
        if not known:
            return self._begin(problem, pool)[:left]
        fresh = _without(pool, done)
        if math.prod(candidates.sizes(space).tolist()) > candidates.LARGEST:
            fresh = self._widen(problem, done, known, fresh)
        if not len(fresh):
            return []
        seen, at = candidates.levels(space, done), candidates.levels(space, fresh)
        worths = _worth(problem, known, _forecast(problem, seen, known, at))
        chosen: list[int] = []
        for worth in worths:
            best = int(np.argmax(worth))
            if worth[best] >= 1 and best not in chosen:
                chosen.append(best)
        return [candidates.point_of(space, fresh[i]) for i in chosen[: min(left, 2)]]

    def _begin(self, problem: Problem, pool: candidates.Indices) -> list[Point]:
        """The allowed points nearest to some on the diagonal."""
        at = candidates.levels(problem.space, pool)
        nearest = [int(np.argmin(((at - level) ** 2).sum(1))) for level in FIRST]
        return [candidates.point_of(problem.space, pool[i]) for i in dict.fromkeys(nearest)]

    def _widen(
        self,
        problem: Problem,
        done: candidates.Indices,
        known: list[Observation],
        fresh: candidates.Indices,
    ) -> candidates.Indices:
        """A sample, and what lies around its best and around the best measured."""
        space = problem.space
        seen, at = candidates.levels(space, done), candidates.levels(space, fresh)
        worths = _worth(problem, known, _forecast(problem, seen, known, at))
        promising = fresh[[int(np.argmax(worth)) for worth in worths]] if len(fresh) else fresh
        front = {id(o) for o in pareto.front(known)}
        good = done[[id(o) in front for o in known]]
        more = candidates.around(space, np.concatenate([promising, good]))
        return _without(np.concatenate([fresh, more]), done)


def _without(rows: candidates.Indices, done: candidates.Indices) -> candidates.Indices:
    """The rows that are not among those done, each once, in order."""
    taken = {tuple(row) for row in done.tolist()}
    unique = np.unique(rows, axis=0)
    return unique[np.array([tuple(row) not in taken for row in unique.tolist()], dtype=bool)]


PLUGIN = Frontier()
