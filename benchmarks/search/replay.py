"""Replays strategies on tables: the search runs as it does on a GPU, but what it wants evaluated or
timed is looked up, and what that would have cost is added up.

The cells of a configuration are searched together, as the workflow does it. A seed decides the
noise of the timing, what a strategy draws at random, and how far the true speed of each candidate
is from what the model
of speeds can say: as far as the table's timings suggest.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.search import peers
from benchmarks.search.tables import Table
from benchmarks.search.truth import (
    LIMIT,
    TARGETS,
    USUAL,
    Asked,
    Truth,
    bound_regret,
    evaluation_of,
    normal,
)
from diffaccel.evaluation.pairs import spread_of, timing_of
from diffaccel.evaluation.records import Evaluation, Measurement, SpeedRow
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.options import SearchOptions
from diffaccel.plugins.space import ParametersDict, Point, Space
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch
from diffaccel.search.decide import decide_cells
from diffaccel.search.estimates import Estimate
from diffaccel.search.gaussian import Floats
from diffaccel.search.history import CellHistory
from diffaccel.search.predictions import CellPredictions
from diffaccel.search.requests import EvaluationRequest, Wanted
from diffaccel.search.speeds import SpeedModel
from diffaccel.search.strategies import Observation, Problem, Strategy
from diffaccel.search.timings import LARGEST_ROUND, MeasuredSpeeds
from diffaccel.store.jsonio import digest


def meeting(targets: Sequence[float], limit: float) -> list[Callable[[Any], Any]]:
    """What answers each of the targets."""
    return [functools.partial(pareto.meet, required=each, loss_limit=limit) for each in targets]


MEETING = meeting(TARGETS, LIMIT)
EXACT = "exhaustive"
TOLERANCE = 0.01
"""A verdict on a speedup that is nearer to the target than this share is not wrong either way: no
timing could tell."""
PAIRS = 2
"""Timed pairs of a candidate at least, and twice as many at most while they differ."""


class InMemory:
    """A journal that is forgotten."""

    def append(self, measurement: Any) -> None:
        """Nothing is kept."""

    def rows(self) -> list[Any]:
        return []


@dataclass
class Ledger:
    """What was spent on a cell, and what it had for it.

    Args:
        images: that were generated to be scored.
        seconds: of a GPU.
        curve: after each step of the search seconds spent, and the regret of what it would answer.
    """

    evaluated: int = 0
    timed: int = 0
    images: int = 0
    seconds: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)


class Replay:
    """Looks up what was measured.

    Args:
        batch: prompts a call; each call takes as long as the recorded one.
        rungs: of a strategy that decides itself how many prompts to evaluate: their shares the
            first time, the second, and so on. What was evaluated in part has a failure that says
            so, so that it is no answer yet.
    """

    def __init__(
        self,
        truth: Truth,
        seed: int,
        batch: int,
        ledgers: dict[Cell, Ledger],
        rungs: tuple[float, ...] = (),
    ) -> None:
        self.truth, self.seed, self.batch, self.ledgers = truth, seed, batch, ledgers
        self._plain = truth.table.provenance.plain
        self._prompts = [math.ceil(s * len(truth.table.baseline.prompts)) for s in (0.0, *rungs)]
        self._evaluated: Counter[str] = Counter()
        self._timed: Counter[str] = Counter()

    def evaluate(self, wanted: Sequence[EvaluationRequest]) -> list[Evaluation]:
        """Costs as many calls as the prompts need."""
        return [self._evaluate(request) for request in wanted]

    def _evaluate(self, request: EvaluationRequest) -> Evaluation:
        row, ledger = self.truth.rows[digest(request.parameters)], self.ledgers[request.cell]
        before, now = request.before.prompts if request.before else 0, request.prompts
        if len(self._prompts) > 1:
            before, now = self._prompts[self._evaluated[row.key] :][:2]
        self._evaluated[row.key] += 1
        calls = math.ceil(now / self.batch) - math.ceil(before / self.batch)
        took = calls * self._plain / self.truth.speedups[row.key]
        ledger.evaluated += not before
        ledger.images += now - before
        ledger.seconds += took
        made = evaluation_of(self.truth.table, row, now, took)
        if len(self._prompts) > 1 and made.failure is None and now < len(row.scores):
            return replace(made, failure=f"evaluated for {now} of {len(row.scores)} prompts")
        return made

    def time_candidates(self, wanted: Wanted, short: Container[str] = ()) -> list[SpeedRow]:
        """Costs a call of each candidate, and its share of the plain one, a round."""
        share = 1 / len(wanted)
        return [
            self._time(cell, parameters, share, PAIRS if digest(parameters) in short else 2 * PAIRS)
            for cell, parameters in wanted
        ]

    def _time(self, cell: Cell, parameters: ParametersDict, share: float, most: int) -> SpeedRow:
        key = digest(parameters)
        self._timed[key] += 1
        pairs: list[tuple[float, float]] = []
        options = self.truth.table.baseline.options
        own = self._plain / self.truth.speedups[key]
        while len(pairs) < PAIRS or (len(pairs) < most and spread_of(pairs) > options.spread):
            error = self.truth.table.provenance.noise * normal(
                key, self.seed, 10 * self._timed[key] + len(pairs)
            )
            pairs.append((self._plain, own * math.exp(error)))
        took = len(pairs) * (own + share * self._plain)
        self.ledgers[cell].timed += 1
        self.ledgers[cell].seconds += took
        return SpeedRow(parameters, timing_of(pairs), None, took, "")


class _Unknown(SpeedModel):
    """Predicts nothing."""

    def __init__(self) -> None:
        pass

    def predict(self, candidates: Sequence[Any]) -> tuple[Floats, Floats]:
        return np.zeros(len(candidates)), np.zeros(len(candidates))


class Unpredicted(MeasuredSpeeds):
    """Timings that nothing is learnt from: for who times all that it evaluates."""

    @property
    def model(self) -> SpeedModel:
        if self._model is None:
            self._model = _Unknown()
        return self._model

    def posterior(self, candidates: Sequence[ParametersDict]) -> tuple[Floats, Floats]:
        known = [digest(parameters) for parameters in candidates]
        speeds = [self.measured(key).speedup if key in self.timings else 1.0 for key in known]
        return np.log([speed or 1.0 for speed in speeds]), np.zeros(len(candidates))


@dataclass
class NotedPredictions(CellPredictions):
    """Those of a cell, which are told of whenever they change."""

    note: Callable[[Iterable[Estimate]], None]
    loss_limit: float

    def _estimated(self) -> dict[str, Estimate]:
        known = super()._estimated()
        evaluations, decisive = self.history.evaluations, self.options.decisive
        limit = self.loss_limit
        self.note(replace(e, loss=decisive(evaluations[k], limit)) for k, e in known.items())
        return known


@dataclass
class TableCell(CellSearch):
    """A cell whose candidates are those of a table, searched by any strategy."""

    table_space: Space | None = None
    by: Strategy | None = None
    truth: Truth | None = None
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        assert self.truth is not None
        limit = self.truth.asked.loss_limit
        self.predictions = NotedPredictions(self.history, self.options, self._note, limit)

    @functools.cached_property
    def space(self) -> Space:
        assert self.table_space is not None
        return self.table_space

    @property
    def strategy(self) -> Strategy:
        assert self.by is not None
        return self.by

    def _ask(self, problem: Problem, observations: Sequence[Observation]) -> list[Point]:
        """Nothing as long as a strategy that is alone lacks a timing."""
        alone = isinstance(self.by, peers.Peer) and self.by.alone
        if alone and not all(each.timed for each in self.predictions.estimates(problem.loss_limit)):
            return []
        return super()._ask(problem, observations)

    def _note(self, known: Iterable[Estimate]) -> None:
        """Notes on the way how good an answer the search has by now."""
        found = [each for each in known if each.timed or not self.strategy.times_all]
        assert self.truth is not None
        chosen = pareto.bound(found, self.truth.asked.loss_limit)
        regret = bound_regret(self.truth, self.cell, chosen)
        if not self.ledger.curve or self.ledger.curve[-1] != (self.ledger.seconds, regret):
            self.ledger.curve.append((self.ledger.seconds, regret))


@dataclass(frozen=True)
class Outcome:
    """How one strategy did in one cell under one seed.

    Args:
        images: that were generated to be scored.
        seconds: of a GPU, until the bound and all targets were decided.
        whole: that evaluating and timing everything takes.
        regret: of the bound.
        bound: what is true of the candidate that was chosen for it, if one was.
        verdicts: on each of the targets, whether it is wrong; and where it is rightly met, the loss
            beyond the least there is.
        curve: seconds spent, and the regret of the bound after them.
    """

    cell: str
    strategy: str
    seed: int
    candidates: int
    evaluated: int
    timed: int
    images: int
    seconds: float
    whole: float
    regret: float
    bound: Estimate | None
    verdicts: list[tuple[bool, float | None]]
    curve: list[tuple[float, float]]

    @property
    def wrong(self) -> int:
        """How many verdicts are wrong."""
        return sum(wrong for wrong, _ in self.verdicts)

    @property
    def excess(self) -> list[float]:
        """Loss beyond the least there is, where it is known."""
        return [excess for _, excess in self.verdicts if excess is not None]


def replay(table: Table, name: str, seed: int, batch: int, asked: Asked = USUAL) -> list[Outcome]:
    """Searches the cells of a configuration by one strategy, under one seed."""
    truth = Truth.of(table, seed, asked)
    cells, measurer = searches(truth, name, seed, batch)
    decide_cells(cells, measurer, asked.targets, asked.loss_limit)
    return [
        _judge(cell, truth, name, seed, _whole(table, cell.cell, seed, batch)) for cell in cells
    ]


@functools.lru_cache(maxsize=1000)
def _whole(table: Table, cell: Cell, seed: int, batch: int) -> float:
    """The same for all strategies."""
    return whole_seconds(Truth.of(table, seed), cell, batch)


def searches(truth: Truth, name: str, seed: int, batch: int) -> tuple[list[TableCell], Replay]:
    """The cells of a configuration, not searched yet, and what measures them by looking up."""
    table = truth.table
    # A loss is looked at after each call, as where a call really generates so few.
    baseline = replace(table.baseline, spec=replace(table.baseline.spec, batch_size=batch))
    measured_by = Unpredicted if peers.strategy(name, 0).times_all else MeasuredSpeeds
    speeds = measured_by(baseline, InMemory())  # type: ignore[arg-type]
    cells = [
        TableCell(
            CellHistory(cell, baseline, InMemory(), speeds, truth.asked.limits),  # type: ignore[arg-type]
            SearchOptions(name, seed=seed, limits=truth.asked.limits),
            table_space=table.spaces[cell],
            by=peers.strategy(name, seed),
            truth=truth,
        )
        for cell in table.rows
    ]
    siblings = {each.cell.accelerators: each for each in cells}
    rungs: tuple[float, ...] = ()
    for cell in cells:
        cell.siblings = siblings
        if isinstance(cell.by, peers.Peer):
            cell.by.evaluations, rungs = cell.history.evaluations, cell.by.rungs
    ledgers = {cell.cell: cell.ledger for cell in cells}
    return cells, Replay(truth, seed, batch, ledgers, rungs)


def whole_seconds(truth: Truth, cell: Cell, batch: int) -> float:
    """GPU-seconds of evaluating and timing all of a cell, in full rounds."""
    return _seconds(truth, cell, batch, [row.parameters for row in truth.table.rows[cell]])


def least_seconds(table: Table, cell: Cell, batch: int) -> float:
    """GPU-seconds of evaluating and timing, once, no more than the answers: what a search would
    take that knows them, with a perfect timing."""
    truth = Truth.of(table.but(noise=0.0, nugget=0.0), seed=0)
    good = truth.good[cell]
    found = [pareto.bound(good, LIMIT), *(meet(good) for meet in MEETING)]
    chosen = {digest(each.parameters): each.parameters for each in found if each is not None}
    return _seconds(truth, cell, batch, list(chosen.values()))


def _seconds(truth: Truth, cell: Cell, batch: int, candidates: Sequence[ParametersDict]) -> float:
    ledgers = {cell: Ledger()}
    measurer = Replay(truth, 0, batch, ledgers)
    prompts = len(truth.table.baseline.prompts)
    measurer.evaluate([EvaluationRequest(cell, parameters, prompts) for parameters in candidates])
    for first in range(0, len(candidates), LARGEST_ROUND):
        measurer.time_candidates(
            [(cell, parameters) for parameters in candidates[first : first + LARGEST_ROUND]]
        )
    return ledgers[cell].seconds


def _judge(cell: TableCell, truth: Truth, name: str, seed: int, whole: float) -> Outcome:
    limit, targets = truth.asked.loss_limit, truth.asked.targets
    found = [cell.predictions.best(meet, limit) for meet in meeting(targets, limit)]
    answers = zip(found, targets, strict=True)
    verdicts = [_verdict(truth, cell.cell, chosen, target) for chosen, target in answers]
    fastest = cell.predictions.fastest(limit)
    regret = bound_regret(truth, cell.cell, fastest)
    return Outcome(
        cell=cell.cell.slug,
        strategy=name,
        seed=seed,
        candidates=len(truth.table.rows[cell.cell]),
        evaluated=cell.ledger.evaluated,
        timed=cell.ledger.timed,
        images=cell.ledger.images,
        seconds=cell.ledger.seconds,
        whole=whole,
        regret=regret,
        bound=fastest and truth.of_parameters(fastest.parameters),
        verdicts=verdicts,
        curve=[*cell.ledger.curve, (cell.ledger.seconds, regret)],
    )


def _verdict(
    truth: Truth, cell: Cell, chosen: Measurement | Estimate | None, target: float
) -> tuple[bool, float | None]:
    """Whether the answer to a target is wrong; and its loss beyond the least there is, if both it
    and the truth meet the target."""
    good, limit = truth.good[cell], truth.asked.loss_limit
    right = pareto.meet(good, target, limit)
    if chosen is None:
        with_confidence = pareto.meet(good, target * (1 + TOLERANCE), limit)
        return with_confidence is not None, None
    real = truth.of_parameters(chosen.parameters)
    if real.loss >= limit or real.speedup < target * (1 - TOLERANCE):
        return True, None
    return False, None if right is None else real.loss - right.loss
