"""What a cell wants measured, and measuring the cells of a configuration side by side.

A candidate is evaluated and scored first, which other jobs on the same device do not disturb, and
timed
only where its speed must be known: where it may be chosen, or where timing it teaches what others
cost. Of all others the speed is predicted.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import statistics
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.measure import check_baseline, loss_interval
from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import (
    Baseline,
    Evaluation,
    Measurement,
    SpeedRow,
    TimingRow,
    Usage,
)
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.options import SearchOptions
from diffaccel.plugins.accelerators import Combination, PipelineSpec, combination
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.space import ParametersDict, Point, Space, flatten, in_words, nest
from diffaccel.search import pareto
from diffaccel.search.acquisition import EXACT, UNSURE, Posterior, acquisition_values
from diffaccel.search.gaussian import Floats
from diffaccel.search.losses import LossModel, scaled
from diffaccel.search.speeds import SpeedModel
from diffaccel.search.strategies import STRATEGIES, Observation, Problem, Strategy
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest

log = logging.getLogger(__name__)

TOGETHER = 16
"""Candidates at most that are timed in the same rounds."""
ELSEWHERE = 40
"""Candidates timed in other configurations of the model, at most, that are learnt from: the newest.
"""
LEAST_ERROR = 0.012
"""Relative error of a timing where the spread of its pairs tells of none."""
MOST = 3
"""Timings of a candidate at most."""
SURE = 1.28
"""By how many standard deviations an answer must be as fast as it should: a chance of 90%."""

Wanted = Sequence[tuple[Cell, ParametersDict]]


@dataclass(frozen=True)
class EvaluationRequest:
    """A candidate that is to be evaluated with so many prompts, and what was evaluated of it
    before."""

    cell: Cell
    parameters: ParametersDict
    prompts: int
    before: Evaluation | None = None


class Measurer(Protocol):
    """What generates and times candidates of the cells of one configuration."""

    def evaluate(self, wanted: Sequence[EvaluationRequest]) -> list[Evaluation]:
        """One evaluation a candidate, in order, with that of before in it."""

    def time_candidates(self, wanted: Wanted, short: Container[str] = ()) -> list[SpeedRow]:
        """One timing a candidate, in order, all timed in the same rounds.

        Args:
            brief: digests of those for which few pairs are enough, however much they differ.
        """


@dataclass(frozen=True)
class Request:
    """What must be done next about a candidate: to evaluate it further, or to time it."""

    what: Literal["evaluate", "time"]
    parameters: ParametersDict


Requests = Iterator[list[Request]]
"""What a cell wants, again and again until it is decided, by what is known when it is asked. What
is to be evaluated must have been when the next list is asked for; what is to be timed may have to
wait as long as other cells evaluate, and is asked for again if it is still wanted then."""


@dataclass(frozen=True)
class Estimate:
    """A candidate that was evaluated, and what is known of its speed.

    Args:
        speedup: what all timings of the configuration together let expect, its own among them.
        loss: what is compared with the limit.
        error: standard deviation of the logarithm of ``speedup``.
        timings: how often it was timed itself.
        measured: the speedup that these gave; None where it was not timed.
    """

    parameters: ParametersDict
    speedup: float
    loss: float
    error: float = EXACT
    timings: int = 0
    measured: float | None = None

    @property
    def timed(self) -> bool:
        return self.timings > 0

    def timed_twice(self, precision: float) -> bool:
        """Whether it was timed twice, and often enough to know it so well, relative."""
        return self.timings == MOST or (self.timings > 1 and self.error <= precision)

    def reported(self) -> Estimate:
        """The same with the speedup that may be promised: that was measured, and is expected."""
        return replace(self, speedup=min(self.speedup, self.measured or self.speedup))

    def with_confidence(self, speedup: float, precision: float) -> bool:
        """Whether it is as fast as that within a precision, as far as timings can tell."""
        off = math.log(self.speedup / speedup) + precision
        reached = self.measured is None or self.measured >= speedup
        return reached and off >= SURE * self.error


Choose = Callable[[list[Estimate]], Estimate | None]


class MeasuredSpeeds:
    """All that was timed of a configuration, whichever its cells, and what that says of other
    candidates.

    Args:
        journal: of everything that was timed of the model, in this configuration and in others.
    """

    def __init__(self, baseline: Baseline, journal: Journal[TimingRow]) -> None:
        self.baseline, self.journal = baseline, journal
        self.timings: dict[str, list[SpeedRow]] = {}
        self._elsewhere: list[tuple[ParametersDict, float, PipelineSpec]] = []
        self._model: SpeedModel | None = None
        self._measured: dict[str, SpeedRow] = {}
        rows = journal.rows()
        for each in rows:
            if each.baseline == baseline.digest and each.row.passing is None:
                self._note(each.row)
        self._take_in(rows)

    def refresh(self) -> None:
        """Takes in what other jobs have timed in other configurations meanwhile."""
        self._take_in(self.journal.rows())

    def _take_in(self, rows: Sequence[TimingRow]) -> None:
        others: dict[str, tuple[ParametersDict, float, PipelineSpec]] = {}
        for each in rows:
            row = each.row
            if each.baseline != self.baseline.digest and row.speedup is not None:
                others[digest(row.parameters)] = (row.parameters, row.speedup, each.pipeline)
        newest = list(others.values())[-ELSEWHERE:]
        if newest != self._elsewhere:
            self._elsewhere, self._model = newest, None

    def add(self, row: SpeedRow) -> None:
        """Keeps a timing, on disk first."""
        self.journal.append(TimingRow(self.baseline.digest, self.baseline.pipeline, row))
        self._note(row)

    def _note(self, row: SpeedRow) -> None:
        key = digest(row.parameters)
        self.timings.setdefault(key, []).append(row)
        self._measured.pop(key, None)
        self._model = None

    @property
    def model(self) -> SpeedModel:
        if self._model is None:
            self._model = self._fit([])
        return self._model

    def _fit(self, fantasies: list[tuple[ParametersDict, float]]) -> SpeedModel:
        rows = itertools.chain.from_iterable(self.timings.values())
        known = [(row.parameters, row.speedup) for row in rows if row.speedup is not None]
        pipeline, error = self.baseline.pipeline, self._timing_error()
        return SpeedModel.fit([*known, *fantasies], pipeline, self._elsewhere, error)

    def _timing_error(self) -> float:
        """How far one timing is off, as the spreads of the pairs tell."""
        rows = itertools.chain.from_iterable(self.timings.values())
        errors = [row.timing.error for row in rows if row.timing and row.timing.counted > 1]
        return max(LEAST_ERROR, statistics.median(errors)) if errors else LEAST_ERROR

    def posterior(self, candidates: Sequence[ParametersDict]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the log-speedup of candidates, timed ones among them: what
        their own timings say, and what those of all others do."""
        return self.model.predict(candidates)

    def measured(self, key: str) -> SpeedRow:
        """All timings of a candidate as one, but for the first where it was timed again.

        The largest of many noisy speedups is too large on average (the winner's curse). What was
        timed again was not chosen for what came out then.
        """
        if key not in self._measured:
            self._measured[key] = _as_one(self.timings[key])
        return self._measured[key]

    def predict(self, points: Sequence[Point]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the log-speedup of points."""
        return self.model.predict([nest(point) for point in points])

    def active_learning(
        self, candidates: Sequence[ParametersDict], timed: Sequence[ParametersDict]
    ) -> list[ParametersDict]:
        """Those of the candidates to time beside others, `TOGETHER` with these at most, so that the
        rest is known well enough: the least sure one, then the least sure given that one, and so
        on."""
        chosen: list[ParametersDict] = []
        if not candidates:
            return chosen
        means, _ = self.model.predict(timed)
        fantasies = [(each, math.exp(mean)) for each, mean in zip(timed, means, strict=True)]
        model, rest = self._fit(fantasies), list(candidates)
        while rest and len(timed) + len(chosen) < TOGETHER:
            means, spreads = model.predict(rest)
            least = int(spreads.argmax())
            if spreads[least] <= UNSURE:
                break
            fantasies.append((rest[least], math.exp(means[least])))
            chosen.append(rest.pop(least))
            model = self._fit(fantasies)
        return chosen


def _as_one(timings: Sequence[SpeedRow]) -> SpeedRow:
    # What was timed is as good as it was, where timing it again failed for what may pass.
    good = [row for row in timings if row.passing is None] or timings
    rows = good[1:] or good
    last = rows[-1].timing
    if last is None:
        return rows[-1]
    pairs = [pair for row in rows if row.timing for pair in row.timing.pairs]
    return replace(
        rows[-1],
        timing=replace(timing_of(pairs), gpu=last.gpu),
        first_call=timings[0].first_call,
        spent=sum(row.spent for row in timings),
        warnings=list(dict.fromkeys(itertools.chain(*(row.warnings for row in rows)))),
        usage=Usage.of(row.usage for row in rows),
        baseline_usage=Usage.of(row.baseline_usage for row in rows),
    )


@dataclass
class CellSearch:
    """A cell with all that was measured of it.

    Args:
        evaluated: journal of evaluations.
        speeds: what was timed of the whole configuration; shared by its cells.
        beside: the searches of the configuration's cells, this one's too, by accelerators.
        budget: how long may be measured; shared by the configuration's cells.
        aside: whether it is only what others are compared with: where time is limited, no more of
            it is measured than that takes.
    """

    cell: Cell
    baseline: Baseline
    evaluated: Journal[Evaluation]
    speeds: MeasuredSpeeds
    options: SearchOptions
    beside: Mapping[tuple[str, ...], CellSearch] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    aside: bool = False
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    problem: Problem | None = None
    """What is being decided."""
    _losses: dict[float, LossModel] = field(default_factory=dict)
    """Of what is evaluated now, by limit."""
    _known: tuple[SpeedModel, dict[str, Estimate]] | None = None
    """By digest, of what is evaluated now; and the model of speeds that it is by."""
    _below: dict[tuple[str, int, float], bool | None] = field(default_factory=dict)
    """By digest, prompts and limit."""

    def __post_init__(self) -> None:
        for evaluation in self.evaluated.rows():
            if evaluation.passing is None:
                self.evaluations[digest(evaluation.parameters)] = self._as_now(evaluation)

    def _as_now(self, evaluation: Evaluation) -> Evaluation:
        """With the interval of the confidence that is asked for now."""
        confidence = self.baseline.options.confidence
        if evaluation.confidence in (None, confidence):
            return evaluation
        scores = evaluation.scores[SCORE]
        interval = loss_interval(self.baseline.scores[SCORE][: len(scores)], scores, confidence)
        return replace(evaluation, loss_interval=interval, confidence=confidence)

    @property
    def combination(self) -> Combination:
        return combination(self.cell.accelerators)

    @property
    def strategy(self) -> Strategy:
        """What decides which candidates are evaluated."""
        return STRATEGIES[self.options.strategy]

    @functools.cached_property
    def refused(self) -> str | None:
        """Why nothing can be measured here, or None."""
        ok, reason = self.combination.supports(self.baseline.pipeline)
        return check_baseline(self.baseline) if ok else reason

    @functools.cached_property
    def whole(self) -> Space:
        """All candidates that make sense."""
        return self.combination.space(self.baseline.pipeline)

    @functools.cached_property
    def space(self) -> Space:
        """The candidates that may be tried."""
        return self.whole.searched(self.options.space, combined=len(self.cell.accelerators) > 1)

    @property
    def most(self) -> int:
        """How many candidates are evaluated for the bound at most."""
        return 0 if self.refused else self.strategy.at_most(self.space)

    @property
    def timings(self) -> dict[str, list[SpeedRow]]:
        """Of its candidates, by digest; some are timed, and not worth evaluation then."""
        timed = self.speeds.timings.items()
        return {key: rows for key, rows in timed if self.owns(rows[0].parameters)}

    def owns(self, parameters: ParametersDict) -> bool:
        """Whether a candidate is of this cell's accelerators."""
        return sorted(parameters) == list(self.cell.accelerators)

    @property
    def seconds(self) -> float:
        """That all of it took."""
        timings = itertools.chain.from_iterable(self.timings.values())
        evaluation = sum(row.spent for row in self.evaluations.values())
        return evaluation + sum(row.spent for row in timings)

    @property
    def passing(self) -> int:
        """How many candidates failed for what may pass; the next run tries them again."""
        evaluated = {key for key, each in self.evaluations.items() if each.passing}
        timed = {key for key, rows in self.timings.items() if rows[-1].passing}
        return len(evaluated | timed)

    def usable(self) -> list[Measurement]:
        """What was evaluated and timed and may be chosen."""
        return [self.measured(each) for each in self.estimates() if each.timed]

    def measured(self, known: Estimate) -> Measurement:
        """All that was measured of a candidate that was timed, with the speedup that may be
        promised of it."""
        key = digest(known.parameters)
        row = Measurement.of(self.evaluations[key], self.speeds.measured(key))
        return replace(row, speedup=known.reported().speedup)

    def estimates(self) -> list[Estimate]:
        """What was evaluated and may be chosen, with what is known of its speed."""
        return list(self._by_digest().values())

    def _by_digest(self) -> dict[str, Estimate]:
        model = self.speeds.model
        if self._known is None or self._known[0] is not model:
            self._known = model, self._estimated()
        return self._known[1]

    def _estimated(self) -> dict[str, Estimate]:
        good = {key: each for key, each in self.evaluations.items() if each.failure is None}
        means, errors = self.speeds.posterior([each.parameters for each in good.values()])
        found, timings = {}, self.timings
        for (key, evaluation), mean, error in zip(good.items(), means, errors, strict=True):
            measured = self.speeds.measured(key).speedup if key in timings else None
            if key not in timings or measured is not None:
                loss, count = self.options.decisive(evaluation), len(timings.get(key, []))
                speedup, error = math.exp(mean), max(float(error), EXACT)
                found[key] = Estimate(evaluation.parameters, speedup, loss, error, count, measured)
        return found

    def best(self, choose: Choose) -> Measurement | None:
        """What is chosen of all that was timed, by the speedups that may be promised."""
        chosen = choose([each.reported() for each in self.estimates() if each.timed])
        return None if chosen is None else self.measured(chosen)

    def fastest(self, loss_limit: float) -> Estimate | None:
        """The fastest within the limit of all that was timed."""
        return pareto.bound([each for each in self.estimates() if each.timed], loss_limit)

    def bound(self, loss_limit: float) -> Measurement | None:
        """The same with all that was measured of it."""
        chosen = self.fastest(loss_limit)
        return None if chosen is None else self.measured(chosen)

    def losses(self, limit: float) -> LossModel:
        """What is known of the losses of this cell, from its own evaluations and from those of
        cells that consist of some of its accelerators."""
        parts = [part.losses(limit) for part in self.parts()]
        model = self._losses.get(limit)
        if model is None or [*model.parts] != parts:
            evaluated = [
                (
                    flatten(each.parameters),
                    math.inf if each.failure else self.options.decisive(each),
                )
                for each in self.evaluations.values()
                if not (each.failure and each.passing)
            ]
            known = [(point, loss) for point, loss in evaluated if self.space.holds(point)]
            model = self._losses[limit] = LossModel(self.whole, limit, known, parts)
        return model

    def parts(self) -> list[CellSearch]:
        """Cells that have each of this one's accelerators once, the largest first; none where an
        accelerator has no cell."""
        left, parts = set(self.cell.accelerators), []
        for names, other in sorted(self.beside.items(), key=lambda item: (-len(item[0]), item[0])):
            if len(names) < len(self.cell.accelerators) and left.issuperset(names):
                parts.append(other)
                left.difference_update(names)
        return [] if left else parts

    def explore(self, targets: Sequence[float], loss_limit: float) -> Requests:
        """What the strategy wants evaluated for the bound and the targets, by the speeds as they
        are predicted; what answers is not timed."""
        self.problem = problem = self._problem(targets, loss_limit, bound=True)
        while not self.budget.over and (wants := self._evaluations(problem)):
            yield wants

    def decide(
        self, targets: Sequence[float], loss_limit: float, *, bound: bool, explored: bool = False
    ) -> Requests:
        """What must be done until the strategy has decided the targets and, if asked for, the
        bound, and what answers them is timed.

        Args:
            explored: nothing new is evaluated.
        """
        self.problem = problem = self._problem(targets, loss_limit, bound=bound)
        while not self.budget.over and (
            wants := ([] if explored else self._evaluations(problem)) or self._answers(problem)
        ):
            yield wants

    def meet(self, targets: Sequence[float], loss_limit: float) -> Requests:
        """What must be timed until it is known what meets the targets."""
        self.problem = problem = self._problem(targets, loss_limit, bound=False)
        while not self.budget.over and (wants := self._answers(problem)):
            yield wants

    def _answers(self, problem: Problem) -> list[Request]:
        """What is to be timed, or evaluated further, of what may be an answer."""
        timed = [Request("time", parameters) for parameters in self._untimed(problem)]
        return timed or [Request("evaluate", parameters) for parameters in self._undecided(problem)]

    def time_up(self, targets: Sequence[float], loss_limit: float) -> bool:
        """Whether something is left that would be done, were there time."""
        if not self.budget.limited:
            return False
        problem = self._problem(targets, loss_limit, bound=True)
        return bool(self._evaluations(problem) or self._answers(problem))

    def _problem(self, targets: Sequence[float], loss_limit: float, *, bound: bool) -> Problem:
        analyses = self.baseline.analyses
        return Problem(
            space=self.space,
            loss_limit=loss_limit,
            targets=tuple(targets),
            bound=bound,
            seed=self.options.seed,
            speeds=self.speeds.predict,
            losses=lambda points: self.losses(loss_limit).predict(points),
            informed=any(part.evaluations for part in self.parts()),
            contaminated=self.combination.changing(self.baseline.pipeline) > 1,
            analysis=analyses.at[0] / analyses.usual,
        )

    def _evaluations(self, problem: Problem) -> list[Request]:
        """What is to be evaluated further, or else is wanted by the strategy; or is timed before,
        where it may not be worth a evaluation."""
        if unfinished := self._unfinished(problem.loss_limit):
            return [Request("evaluate", parameters) for parameters in unfinished]
        history = self._history(problem)
        points = self._ask(problem, history)
        if self.budget.limited:  # a timing of its own takes longer than a first evaluation
            return [Request("evaluate", nest(point)) for point in points]
        unsure = [nest(point) for point in self.strategy.unsure(problem, history, points)]
        first = [each for each in unsure if digest(each) not in self.speeds.timings]
        if first:
            return [Request("time", parameters) for parameters in first]
        return [Request("evaluate", nest(point)) for point in points]

    def _ask(self, problem: Problem, history: Sequence[Observation]) -> list[Point]:
        return self.strategy.ask(problem, history)

    def _history(self, problem: Problem) -> list[Observation]:
        """Everything that was evaluated in this space."""
        known = self._by_digest()
        seen = [
            Observation(
                flatten(evaluation.parameters),
                known[key].speedup,
                self.options.decisive(evaluation),
            )
            if key in known
            else Observation(flatten(evaluation.parameters), 0.0, math.inf)
            for key, evaluation in self.evaluations.items()
        ]
        return [one for one in seen if problem.space.holds(one.point)]

    def below(self, evaluation: Evaluation, loss_limit: float) -> bool | None:
        """Whether the loss of a candidate is below a limit; None where that is not clear."""
        if not evaluation.scores:
            return False
        key = digest(evaluation.parameters), evaluation.prompts, loss_limit
        if key not in self._below:
            plain = self.baseline.scores[SCORE]
            self._below[key] = self.baseline.analyses.below(
                plain, evaluation.scores[SCORE], loss_limit
            )
        return self._below[key]

    def sheet(self, parameters: ParametersDict) -> EvaluationRequest:
        """What evaluating a candidate up to the next interim analysis takes."""
        before = self.evaluations.get(digest(parameters))
        analyses = self.baseline.analyses.at
        prompts = next(
            analysis for analysis in analyses if before is None or analysis > before.prompts
        )
        return EvaluationRequest(self.cell, parameters, prompts, before)

    def _unfinished(self, loss_limit: float) -> list[ParametersDict]:
        """What was not evaluated with the usual number of prompts though it may keep the limit."""
        usual = self.baseline.analyses.usual
        return [
            each.parameters
            for each in self.evaluations.values()
            if 0 < each.prompts < usual
            and each.failure is None
            and each.passing is None
            and self.below(each, loss_limit) is not False
        ]

    def _undecided(self, problem: Problem) -> list[ParametersDict]:
        """Answers that are not clearly below the limit, and what would be the answer to a target
        that none meets, if it were, as long as there are prompts left. What is not faster than the
        baseline pipeline answers nothing."""
        found, limit = self.estimates(), problem.loss_limit
        timed = [each for each in found if each.timed and each.speedup > 1]
        chosen = [pareto.bound(timed, limit)] if problem.bound else []
        reported = [each.reported() for each in timed]
        for target in problem.targets:
            met = pareto.meet(reported, target, limit)
            chosen.append(met or self._closest(found, target, limit))
        evaluations = {
            digest(each.parameters): self.evaluations[digest(each.parameters)]
            for each in chosen
            if each
        }
        return [
            each.parameters
            for each in evaluations.values()
            if each.prompts < self.baseline.analyses.most
            and each.passing is None
            and self.below(each, limit) is None
        ]

    def _closest(
        self, found: Sequence[Estimate], target: float, loss_limit: float
    ) -> Estimate | None:
        """What is fast enough, but of a loss that is not clearly below the limit."""
        unclear = [
            each
            for each in found
            if each.speedup >= target
            and self.below(self.evaluations[digest(each.parameters)], loss_limit) is None
        ]
        return min(unclear, key=lambda each: each.loss, default=None)

    def clear(self, chosen: Measurement | None, target: float, loss_limit: float) -> bool:
        """Whether the prompts tell that what was chosen for a target keeps the limit, or, where
        nothing was, that nothing does."""
        if chosen is None:
            return self._closest(self.estimates(), target, loss_limit) is None
        return self.below(self.evaluations[digest(chosen.parameters)], loss_limit) is True

    def _untimed(self, problem: Problem) -> list[ParametersDict]:
        """What has to be timed: for each question what may be expected to move the answer most,
        if that is worth it, given what was timed; and the answers, until they are sure."""
        found = self.estimates()
        timed = [each for each in found if each.timed]
        if self.strategy.times_all:
            missing = [each for each in found if not each.timed]
        else:
            unsure, worths = self._worths(problem, timed, found)
            best = {int(row.argmax()) for row in worths if len(row) and row.max() >= 1}
            missing = [unsure[index] for index in sorted(best)]
            if not missing and not timed:
                nearest = pareto.nearest(found, math.inf, problem.loss_limit)
                missing = [nearest] if nearest else []
        return [each.parameters for each in missing or self._to_time_again(problem, timed)]

    def _worths(
        self, problem: Problem, known: Sequence[Estimate], found: Sequence[Estimate]
    ) -> tuple[list[Estimate], Floats]:
        """What was found and may be timed, and what timing each is worth to each question, given
        what is known: (questions, unsure)."""
        unsure = [each for each in found if each.timings < MOST]
        if not unsure:
            return [], np.zeros((0, 0))
        limit = problem.loss_limit
        losses = np.array([scaled(each.loss, limit) for each in unsure])
        speeds = np.log([each.speedup for each in unsure])
        errors = np.array([each.error for each in unsure])
        exact = np.full(len(unsure), EXACT)
        posterior = Posterior(speeds, errors, losses, exact, scaled(limit, limit))
        return unsure, np.array(acquisition_values(problem, known, posterior))

    def _to_time_again(self, problem: Problem, timed: Sequence[Estimate]) -> list[Estimate]:
        """The bound, unless it was timed twice and is known well, and answers that may be too slow.
        What is not faster than the baseline pipeline promises nothing, and needs none."""
        limit, precision = problem.loss_limit, self.baseline.options.spread
        best = pareto.bound(timed, limit) if problem.bound else None
        asked = [best] if best and best.speedup > 1 and not best.timed_twice(precision) else []
        for target in problem.targets:
            met = pareto.meet(timed, target, limit)
            if (
                met is not None
                and met.timings < MOST
                and not met.with_confidence(target, precision)
            ):
                asked.append(met)
        return list({digest(each.parameters): each for each in asked}.values())

    def unsure(self) -> list[ParametersDict]:
        """What was evaluated and not timed and may be expected to move an answer, for all that is
        known of its speed."""
        if self.problem is None or self.strategy.times_all:
            return []
        found = self.estimates()
        unsure, worths = self._worths(self.problem, found, found)
        if not unsure:
            return []
        return [
            each.parameters
            for each, value in zip(unsure, worths.max(axis=0), strict=True)
            if value >= 1 and not each.timed
        ]

    def add_evaluation(self, row: Evaluation) -> None:
        """Keeps a evaluation, on disk first."""
        self.evaluated.append(row)
        self.evaluations[digest(row.parameters)] = row
        self._losses.clear()
        self._known = None
        what = f"({row.failure})" if row.failure else f"after {row.prompts} prompts"
        log.info("%s: %s: loss %+.4f %s", self.cell.slug, in_words(row.parameters), row.loss, what)

    def add_timing(self, row: SpeedRow, expected: float, error: float) -> None:
        """Keeps a timing, on disk first.

        Args:
            expected: log-speedup that was predicted, and its standard deviation.
        """
        self.speeds.add(row)
        log.info(
            "%s: %s -> %s (%.2fx +-%.0f%% predicted)",
            self.cell.slug,
            in_words(row.parameters),
            row.failure if row.speedup is None else f"{row.speedup:.2f}x",
            math.exp(expected),
            100 * error,
        )


def run_search(wanting: Sequence[tuple[CellSearch, Requests]], measurer: Measurer) -> None:
    """Does what the cells want, side by side, until none wants more or the time is up.

    Nothing is timed as long as a cell wants to evaluate, but once at the beginning: so the device
    is asked for as seldom as can be, and what is timed shares rounds.
    """
    searches = {search.cell: search for search, _ in wanting}
    while wanted := {search.cell: wants for search, each in wanting if (wants := next(each, []))}:
        budget = next(iter(searches.values())).budget
        evaluated = [
            searches[cell].sheet(parameters) for cell, parameters in _all(wanted, "evaluate")
        ]
        _evaluate(searches, evaluated, measurer, budget)
        if evaluated and next(iter(searches.values())).speeds.timings:
            continue
        timed = {digest(s): (cell, s) for cell, s in _all(wanted, "time")}
        timed |= {digest(s): (cell, s) for cell, s in _active_learning(searches, [*timed.values()])}
        _time(searches, list(timed.values())[:TOGETHER], measurer, budget)


def _evaluate(
    searches: dict[Cell, CellSearch],
    wanted: Sequence[EvaluationRequest],
    measurer: Measurer,
    budget: Budget,
) -> None:
    """One at a time where the time is limited, so that it ends within one."""
    at_once = len(wanted) if math.isinf(budget.left) else 1
    for start in range(0, len(wanted), at_once or 1):
        if budget.over:
            return
        sheets = wanted[start : start + at_once]
        for sheet, evaluation in zip(sheets, measurer.evaluate(sheets), strict=True):
            searches[sheet.cell].add_evaluation(evaluation)


def answer_at_all(
    searches: Sequence[CellSearch], measurer: Measurer, targets: Sequence[float], limit: float
) -> None:
    """Has each cell an answer, whatever the time: generates what the strategy wants first where
    nothing was, and times what is expected to be the fastest within the limit where nothing is."""
    by_cell = {search.cell: search for search in searches}
    for search in searches:
        if not search.estimates():
            wants = next(search.explore(targets, limit), [])
            sheets = [
                search.sheet(want.parameters) for want in wants[:1] if want.what == "evaluate"
            ]
            _evaluate(by_cell, sheets, measurer, Budget())
    found = {search.cell: search.estimates() for search in searches}
    untimed = [
        (cell, best.parameters)
        for cell, known in found.items()
        if not any(each.timed for each in known)
        and (best := pareto.nearest(known, math.inf, limit)) is not None
    ]
    _time(by_cell, untimed[:TOGETHER], measurer, Budget())


def _all(wants: dict[Cell, list[Request]], what: str) -> list[tuple[Cell, ParametersDict]]:
    """The first of each cell, then the second of each, and so on."""
    wanted = [
        [(cell, want.parameters) for want in queue if want.what == what]
        for cell, queue in wants.items()
    ]
    rounds = itertools.zip_longest(*wanted)
    return [each for group in rounds for each in group if each is not None]


def _active_learning(
    searches: dict[Cell, CellSearch], timed: Wanted
) -> list[tuple[Cell, ParametersDict]]:
    """What teaches most about what may be chosen, if that is not known well enough from what is
    timed anyway."""
    unsure = {
        digest(parameters): (cell, parameters)
        for cell, search in searches.items()
        for parameters in search.unsure()
    }
    speeds = next(iter(searches.values())).speeds
    speeds.refresh()
    known = [parameters for _, parameters in timed]
    for parameters in known:
        unsure.pop(digest(parameters), None)
    active_learning = speeds.active_learning(
        [parameters for _, parameters in unsure.values()], known
    )
    return [unsure[digest(parameters)] for parameters in active_learning]


def _time(
    searches: dict[Cell, CellSearch], wanted: Wanted, measurer: Measurer, budget: Budget
) -> None:
    if not wanted:
        return
    speeds = next(iter(searches.values())).speeds
    expected = list(zip(*speeds.posterior([parameters for _, parameters in wanted]), strict=True))
    kept = _in_time([mean for mean, _ in expected], speeds.baseline, budget.left)
    wanted, expected = wanted[:kept], expected[:kept]
    # Most of what is timed turns out not to matter. What does is timed again, and thoroughly.
    first = {
        key
        for cell, parameters in wanted
        if (key := digest(parameters)) not in speeds.timings
        and not searches[cell].strategy.times_all
    }
    rows = measurer.time_candidates(wanted, first)
    for (cell, _), row, guess in zip(wanted, rows, expected, strict=True):
        searches[cell].add_timing(row, *guess)


def _in_time(means: Sequence[float], baseline: Baseline, left: float) -> int:
    """How many of the candidates, from the first on, can be timed together in the time that is
    left; one in any case.

    Args:
        means: of their log-speedups.
    """
    plain = statistics.median(baseline.seconds)
    # Each pair has a call of the baseline, which all share; before them each is called once.
    pairs = baseline.options.pairs
    calls = itertools.accumulate(plain * (pairs + 1) / math.exp(mean) for mean in means)
    return max(1, sum(pairs * plain + seconds <= left for seconds in calls))
