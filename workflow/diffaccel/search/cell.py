"""The search of one cell: what must be evaluated or timed next to decide its questions.

A candidate is evaluated first, which other jobs on the same device do not disturb. It is timed only
where its speed must be known: where it may be chosen, or where timing it teaches what others cost.
Of all others the speed is predicted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.records import Baseline
from diffaccel.evaluation.scores import check_baseline
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import Limit
from diffaccel.experiment.options import SearchOptions
from diffaccel.plugins.accelerators import Combination, combination
from diffaccel.plugins.space import ParametersDict, Point, Space, nest
from diffaccel.search import pareto
from diffaccel.search.acquisition import EXACT, Posterior, acquisition_values
from diffaccel.search.estimates import MOST_TIMINGS, Estimate
from diffaccel.search.gaussian import Floats
from diffaccel.search.history import CellHistory
from diffaccel.search.losses import LossModel, scaled
from diffaccel.search.predictions import CellPredictions
from diffaccel.search.requests import Request, Requests
from diffaccel.search.strategies import STRATEGIES, Observation, Problem, Strategy
from diffaccel.store.jsonio import digest


@dataclass
class CellSearch:
    """The questions about a cell, and what must be measured to answer them.

    Args:
        history: what was measured of it.
        siblings: the searches of the configuration's cells, this one's too, by accelerators.
        budget: how long may be measured; shared by the configuration's cells.
        aside: whether it is only what others are compared with: where time is limited, no more of
            it is measured than that takes.
        predictions: what the history says of candidates.
        problem: what is being decided.
        views: this cell by other limits; see `under`.
    """

    history: CellHistory
    options: SearchOptions
    siblings: Mapping[tuple[str, ...], CellSearch] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    aside: bool = False
    predictions: CellPredictions = field(init=False)
    problem: Problem | None = field(default=None, init=False)
    views: dict[tuple[Limit, ...], CellSearch] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.predictions = CellPredictions(self.history, self.options)

    @property
    def cell(self) -> Cell:
        """The cell itself."""
        return self.history.cell

    @property
    def baseline(self) -> Baseline:
        """What all measurements are relative to."""
        return self.history.baseline

    @property
    def combination(self) -> Combination:
        """Its accelerators."""
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

    def under(self, limits: tuple[Limit, ...] | None) -> CellSearch:
        """The search of the same cell by other limits: what is measured is one; None: by its own,
        which is this one."""
        options = self.options.under(limits)
        if options == self.options:
            return self
        if options.limits not in self.views:
            siblings: dict[tuple[str, ...], CellSearch] = {}
            for each in (self, *self.siblings.values()):
                seen = CellSearch(each.history, options, siblings, each.budget, each.aside)
                each.views[options.limits] = siblings[each.cell.accelerators] = seen
        return self.views[options.limits]

    # ---- what it learns from the cells beside it ------------------------------------------------

    def losses(self, limit: float) -> LossModel:
        """What is known of the losses of this cell, from its own evaluations and from those of
        cells that consist of some of its accelerators."""
        parts = [part.losses(limit) for part in self.parts()]
        return self.predictions.losses(limit, self.whole, self.space, parts)

    def parts(self) -> list[CellSearch]:
        """Cells that have each of this one's accelerators once, the largest first; none where an
        accelerator has no cell."""
        left, parts = set(self.cell.accelerators), []
        by_size = sorted(self.siblings.items(), key=lambda item: (-len(item[0]), item[0]))
        for names, other in by_size:
            if len(names) < len(self.cell.accelerators) and left.issuperset(names):
                parts.append(other)
                left.difference_update(names)
        return [] if left else parts

    # ---- its questions --------------------------------------------------------------------------

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
            speeds=self.history.speeds.predict,
            losses=lambda points: self.losses(loss_limit).predict(points),
            informed=any(part.history.evaluations for part in self.parts()),
            contaminated=self.combination.changing(self.baseline.pipeline) > 1,
            analysis=analyses.at[0] / analyses.usual,
        )

    # ---- what is evaluated ----------------------------------------------------------------------

    def _evaluations(self, problem: Problem) -> list[Request]:
        """What is to be evaluated further, or else is wanted by the strategy; or is timed before,
        where it may not be worth an evaluation."""
        if unfinished := self.predictions.unfinished(problem.loss_limit):
            return [Request("evaluate", parameters) for parameters in unfinished]
        observations = self.predictions.observations(problem.space, problem.loss_limit)
        points = self._ask(problem, observations)
        if self.budget.limited:  # a timing of its own takes longer than a first evaluation
            return [Request("evaluate", nest(point)) for point in points]
        unsure = [nest(point) for point in self.strategy.unsure(problem, observations, points)]
        first = [each for each in unsure if digest(each) not in self.history.speeds.timings]
        if first:
            return [Request("time", parameters) for parameters in first]
        return [Request("evaluate", nest(point)) for point in points]

    def _ask(self, problem: Problem, observations: Sequence[Observation]) -> list[Point]:
        return self.strategy.ask(problem, observations)

    # ---- what is timed, or evaluated further ----------------------------------------------------

    def _answers(self, problem: Problem) -> list[Request]:
        """What is to be timed, or evaluated further, of what may be an answer."""
        timed = [Request("time", parameters) for parameters in self._untimed(problem)]
        return timed or [Request("evaluate", parameters) for parameters in self._undecided(problem)]

    def _undecided(self, problem: Problem) -> list[ParametersDict]:
        """Answers that are not clearly below the limit, and what would be the answer to a target
        that none meets, if it were, as long as there are prompts left. What is not faster than the
        baseline pipeline answers nothing."""
        limit = problem.loss_limit
        timed = [each for each in self.predictions.timed(limit) if each.speedup > 1]
        chosen = [pareto.bound(timed, limit)] if problem.bound else []
        reported = [each.reported() for each in timed]
        for target in problem.targets:
            met = pareto.meet(reported, target, limit)
            chosen.append(met or self.predictions.closest(target, limit))
        candidates = {digest(each.parameters): each.parameters for each in chosen if each}
        return [
            parameters
            for parameters in candidates.values()
            if self.predictions.may_become_clear(parameters, limit)
        ]

    def _untimed(self, problem: Problem) -> list[ParametersDict]:
        """What has to be timed: for each question what may be expected to move the answer most,
        if that is worth it, given what was timed; and the answers, until they are sure."""
        limit = problem.loss_limit
        found, timed = self.predictions.estimates(limit), self.predictions.timed(limit)
        if self.strategy.times_all:
            missing = [each for each in found if not each.timed]
        else:
            unsure, values = self._acquisition_values(problem, timed, found)
            best = {int(row.argmax()) for row in values if len(row) and row.max() >= 1}
            missing = [unsure[index] for index in sorted(best)]
            if not missing and not timed:
                nearest = pareto.nearest(found, math.inf, limit)
                missing = [nearest] if nearest else []
        return [each.parameters for each in missing or self._to_time_again(problem, timed)]

    def _acquisition_values(
        self, problem: Problem, known: Sequence[Estimate], found: Sequence[Estimate]
    ) -> tuple[list[Estimate], Floats]:
        """What was found and may be timed, and what timing each is worth to each question, given
        what is known: (questions, unsure)."""
        unsure = [each for each in found if each.timings < MOST_TIMINGS]
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
                and met.timings < MOST_TIMINGS
                and not met.with_confidence(target, precision)
            ):
                asked.append(met)
        return list({digest(each.parameters): each for each in asked}.values())

    def unsure(self) -> list[ParametersDict]:
        """What was evaluated and not timed and may be expected to move an answer, for all that is
        known of its speed."""
        if self.problem is None or self.strategy.times_all:
            return []
        found = self.predictions.estimates(self.problem.loss_limit)
        unsure, values = self._acquisition_values(self.problem, found, found)
        if not unsure:
            return []
        return [
            each.parameters
            for each, value in zip(unsure, values.max(axis=0), strict=True)
            if value >= 1 and not each.timed
        ]
