"""What `frontier` is compared with: other ways to search, each at its best reasonable candidate.

They are no plugins. All see the same evaluations and the same predicted speeds as `frontier` does,
so that what is compared is the choice of candidates; but for those that are `alone`, which time
whatever they evaluate, as who uses them by themselves must. An instance is for one cell: some keep
a study.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffaccel.evaluation.records import Evaluation
from diffaccel.plugins.space import Point, Space, nest
from diffaccel.search.strategies import STRATEGIES, Strategy
from diffaccel.search.strategies import _candidates as candidates
from diffaccel.search.strategies.base import Observation, Problem
from diffaccel.store.jsonio import digest

if TYPE_CHECKING:
    import optuna

FEWEST, SHARE, MOST = 15, 0.6, 120
"""Measurements of a cell that a peer without an end of its own is given: this share of the allowed
points, between the fewest and the most."""
HOPELESS, SLOWEST = 3.0, 1e-3
"""Relative loss and speedup that a failed candidate is said to have."""


class Peer(Strategy):
    """One that remembers nothing but the points of its space.

    Args:
        seed: of all that it draws at random.
    """

    most: ClassVar[int] = MOST
    rungs: ClassVar[tuple[float, ...]] = ()
    """Shares of the prompts that are evaluated when a point is asked for the first time, the
    second, and so on."""
    alone: ClassVar[bool] = False
    """Whether it knows no predicted speeds: what it asks for is timed before it is asked again."""

    def __init__(self, seed: int) -> None:
        self.evaluations: Mapping[str, Evaluation] = {}
        """Of its cell, by digest of the candidate; of part of the prompts, too."""
        self.random = np.random.default_rng(seed)
        self._left: dict[tuple[int, ...], None] | None = None

    def budget(self, left: int, measured: int) -> int:
        """How many more points may be measured."""
        most = min(self.most, max(FEWEST, round(SHARE * (left + measured))))
        return max(0, min(left, most - measured))

    def left(self, space: Space, history: Sequence[Observation]) -> list[tuple[int, ...]]:
        """The allowed points that were not measured, as value indices, mildest first."""
        if self._left is None:
            rows = (candidates.row_of(space, point) for point in space.points())
            self._left = dict.fromkeys(row for row in rows if row is not None)
        for one in history:
            row = candidates.row_of(space, one.point)
            if row is not None:
                self._left.pop(row, None)
        return list(self._left)


class Everything(Peer):
    """All points at once, as `exhaustive` asks for a few at a time, again and again."""

    name: ClassVar[str] = "exhaustive"
    times_all: ClassVar[bool] = True

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        left = self.left(problem.space, history)
        return [candidates.point_of(problem.space, row) for row in left]


class Random(Peer):
    """Points drawn at random, each once."""

    name: ClassVar[str] = "random"
    batch: ClassVar[int] = 5

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        left = self.left(problem.space, history)
        count = min(self.batch, self.budget(len(left), len(history)))
        chosen = self.random.permutation(len(left))[:count]
        return [candidates.point_of(problem.space, left[i]) for i in chosen]


class FirstVersion(Peer):
    """The order of this project's first version: from the most aggressive candidate downwards, up
    to the first that keeps the loss. Ends by itself."""

    name: ClassVar[str] = "first version"

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        if any(one.loss < problem.loss_limit for one in history):
            return []
        left = self.left(problem.space, history)
        return [candidates.point_of(problem.space, row) for row in left[-1:]]


class Halving(Peer):
    """Successive halving, as in a bracket of Hyperband (Li et al., JMLR 18, 2018): points drawn
    at random get a quarter of the prompts; half of them as many again; half of these all.

    Kept are those that the fewest others beat in both predicted speed and loss, losses beyond the
    limit counting as equal. To ask for a point again is to ask for more prompts.
    """

    name: ClassVar[str] = "halving"
    rungs: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0)

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._climbed: list[list[tuple[int, ...]]] = []

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        if len(self._climbed) == len(self.rungs):
            return []
        if self._climbed:
            chosen = self._best(problem)
        else:
            left = self.left(problem.space, history)
            order = self.random.permutation(len(left))
            chosen = [left[i] for i in order[: 2 * self.budget(len(left), 0)]]
        self._climbed.append(chosen)
        return [candidates.point_of(problem.space, row) for row in chosen]

    def _best(self, problem: Problem) -> list[tuple[int, ...]]:
        rows = self._climbed[-1]
        points = [candidates.point_of(problem.space, row) for row in rows]
        losses = [self.evaluations[digest(nest(point))].loss for point in points]
        loss = np.maximum(np.array(losses), 0.0)
        beyond = loss >= problem.loss_limit
        assert problem.speeds is not None
        speed = np.where(beyond, -np.inf, problem.speeds(points)[0])
        beaten = (speed[:, None] <= speed) & (loss[:, None] >= loss)
        order = np.lexsort((loss, beaten.sum(1), beyond))
        return [rows[i] for i in order[: max(1, len(rows) // 2)]]


class Optuna(Peer):
    """A sampler of Optuna that looks for a large log-speedup, if ``both`` for a small
    loss, too, with the constraint that the loss is within the limit. A point that is forbidden or
    was measured stands for the nearest one that is neither."""

    batch: ClassVar[int] = 1
    both: ClassVar[bool] = True

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed
        self._study: optuna.Study | None = None
        self._open: dict[tuple[int, ...], optuna.trial.Trial] = {}

    @abstractmethod
    def sampler(self, problem: Problem) -> optuna.samplers.BaseSampler:
        """The sampler; its constraints are those of `constraint`."""

    def study(self, problem: Problem) -> optuna.Study:
        import optuna

        if self._study is None:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of options that are said to be experimental
                sampler = self.sampler(problem)
            up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
            goals = [up, down] if self.both else [up]
            self._study = optuna.create_study(directions=goals, sampler=sampler)
        return self._study

    def ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        study = self.study(problem)
        for one in history:
            row = candidates.row_of(problem.space, one.point)
            if row is not None and (trial := self._open.pop(row, None)) is not None:
                self._tell(study, trial, one, problem.loss_limit)
        left = self.left(problem.space, history)
        count = min(self.batch, self.budget(len(left), len(history)))
        return [
            candidates.point_of(problem.space, self._suggested(study, problem, left))
            for _ in range(count)
        ]

    def _tell(
        self, study: optuna.Study, trial: optuna.trial.Trial, one: Observation, limit: float
    ) -> None:
        loss = one.loss if math.isfinite(one.loss) else HOPELESS
        trial.set_user_attr("beyond", loss - limit)
        speed = math.log(max(one.speedup, SLOWEST))
        study.tell(trial, [speed, loss] if self.both else [speed])

    def _suggested(
        self, study: optuna.Study, problem: Problem, left: list[tuple[int, ...]]
    ) -> tuple[int, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = study.ask()
            row = [
                trial.suggest_int(axis.name, 0, len(axis.values) - 1) for axis in problem.space.axes
            ]
        fresh = [each for each in left if each not in self._open]
        near = nearest(problem.space, row, fresh)
        self._open[near] = trial
        return near


def constraint(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    """How far beyond the limit the loss is; 0 or less is feasible."""
    return [trial.user_attrs["beyond"]]


def nearest(space: Space, wanted: Sequence[int], rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The row nearest in level to another one."""
    at = candidates.levels(space, np.array([wanted, *rows], dtype=np.intp))
    return rows[int(((at[1:] - at[0]) ** 2).sum(1).argmin())]


class TPE(Optuna):
    """Tree-structured Parzen estimators, over all parameters together."""

    name: ClassVar[str] = "Optuna TPE"

    def sampler(self, problem: Problem) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.TPESampler(
            seed=self.seed, n_startup_trials=10, multivariate=True, constraints_func=constraint
        )


class NSGA2(Optuna):
    """The genetic algorithm, in generations of ten: it has but few measurements."""

    name: ClassVar[str] = "Optuna NSGA-II"
    batch: ClassVar[int] = 10

    def sampler(self, problem: Problem) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.NSGAIISampler(
            seed=self.seed, population_size=self.batch, constraints_func=constraint
        )


class GP(Optuna):
    """Gaussian processes and the expected gain of speed: of speed and loss together, by the volume
    that they dominate, is slower to choose and finds less."""

    name: ClassVar[str] = "Optuna GP"
    most: ClassVar[int] = 50
    both: ClassVar[bool] = False

    def sampler(self, problem: Problem) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.GPSampler(
            seed=self.seed,
            n_startup_trials=10,
            deterministic_objective=True,
            constraints_func=constraint,
        )


class TPEAlone(TPE):
    name: ClassVar[str] = "Optuna TPE alone"
    times_all: ClassVar[bool] = True
    alone: ClassVar[bool] = True


class GPAlone(GP):
    name: ClassVar[str] = "Optuna GP alone"
    times_all: ClassVar[bool] = True
    alone: ClassVar[bool] = True


PEERS: tuple[type[Peer], ...] = (
    Everything,
    Random,
    FirstVersion,
    Halving,
    TPE,
    NSGA2,
    GP,
    TPEAlone,
    GPAlone,
)


def names() -> list[str]:
    """Every strategy that can be replayed: the others, and those of the product
    between them."""
    own = [name for name in STRATEGIES if name != Everything.name]
    return [Everything.name, *own, *(peer.name for peer in PEERS[1:])]


def strategy(name: str, seed: int) -> Strategy:
    """A strategy for one cell.

    Raises:
        UnknownNameError: there is none of this name.
    """
    found = {peer.name: peer for peer in PEERS}
    return found[name](seed) if name in found else STRATEGIES[name]
