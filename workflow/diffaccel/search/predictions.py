"""What the history of a cell says of its candidates: estimates of those that were evaluated, a loss
model of all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diffaccel.evaluation import limits
from diffaccel.evaluation.records import Evaluation, Measurement
from diffaccel.experiment.options import SearchOptions
from diffaccel.plugins.space import ParametersDict, Space, flatten
from diffaccel.search import pareto
from diffaccel.search.acquisition import EXACT
from diffaccel.search.estimates import Choose, Estimate
from diffaccel.search.history import CellHistory
from diffaccel.search.losses import LossModel
from diffaccel.search.speeds import SpeedModel
from diffaccel.search.strategies import Observation
from diffaccel.store.jsonio import digest


@dataclass
class CellPredictions:
    """Estimates and loss models of a cell, made anew when more was measured."""

    history: CellHistory
    options: SearchOptions
    _losses: dict[float, tuple[int, LossModel]] = field(default_factory=dict, init=False)
    """By limit; and how often something had been evaluated."""
    _below: dict[tuple[str, int, float], bool | None] = field(default_factory=dict, init=False)
    """By digest, prompts and limit."""
    _estimates: tuple[int, SpeedModel, dict[str, Estimate]] | None = field(default=None, init=False)
    """The same, the model of speeds that they are by, and the estimates by digest."""

    # ---- whether a candidate keeps the limits ---------------------------------------------------

    def below(self, evaluation: Evaluation, loss_limit: float) -> bool | None:
        """Whether a candidate keeps all limits; None where that is not clear."""
        if not evaluation.scores:
            return False
        key = digest(evaluation.parameters), evaluation.prompts, loss_limit
        if key not in self._below:
            baseline = self.history.baseline
            scores = baseline.scores, evaluation.scores
            asked = self.options.limits
            self._below[key] = limits.below(baseline.analyses, asked, *scores, loss_limit)
        return self._below[key]

    def unfinished(self, loss_limit: float) -> list[ParametersDict]:
        """What was not evaluated with the usual number of prompts though it may keep the limits."""
        usual = self.history.baseline.analyses.usual
        return [
            each.parameters
            for each in self.history.evaluations.values()
            if 0 < each.prompts < usual
            and each.failure is None
            and each.passing is None
            and self.below(each, loss_limit) is not False
        ]

    def unclear(self, parameters: ParametersDict, loss_limit: float) -> bool:
        """Whether the prompts of an evaluated candidate do not tell if it keeps the limits."""
        return self.below(self.history.evaluations[digest(parameters)], loss_limit) is None

    def may_become_clear(self, parameters: ParametersDict, loss_limit: float) -> bool:
        """The same, as long as there are prompts left."""
        evaluation = self.history.evaluations[digest(parameters)]
        left = evaluation.prompts < self.history.baseline.analyses.most
        return left and evaluation.passing is None and self.unclear(parameters, loss_limit)

    # ---- what is known of it, and expected ------------------------------------------------------

    def estimates(self, loss_limit: float) -> list[Estimate]:
        """What was evaluated and may be chosen, with what is known of its speed."""
        known = self._by_digest()
        if not self.options.limits:  # the loss that is compared is the same for all
            return list(known.values())
        return [
            replace(each, loss=self.options.decisive(self.history.evaluations[key], loss_limit))
            for key, each in known.items()
        ]

    def _by_digest(self) -> dict[str, Estimate]:
        changes, model = self.history.changes, self.history.speeds.model
        known = self._estimates
        if known is None or known[0] != changes or known[1] is not model:
            known = self._estimates = changes, model, self._estimated()
        return known[2]

    def _estimated(self) -> dict[str, Estimate]:
        speeds, timings = self.history.speeds, self.history.timings
        evaluations = self.history.evaluations.items()
        good = {key: each for key, each in evaluations if each.failure is None}
        means, errors = speeds.posterior([each.parameters for each in good.values()])
        found = {}
        for (key, evaluation), mean, error in zip(good.items(), means, errors, strict=True):
            measured = speeds.measured(key).speedup if key in timings else None
            if key not in timings or measured is not None:
                loss, count = self.options.decisive(evaluation, 0.0), len(timings.get(key, []))
                speedup, error = math.exp(mean), max(float(error), EXACT)
                found[key] = Estimate(evaluation.parameters, speedup, loss, error, count, measured)
        return found

    def observations(self, space: Space, loss_limit: float) -> list[Observation]:
        """Everything that was evaluated in a space."""
        known = self._by_digest()
        seen = [
            Observation(
                flatten(evaluation.parameters),
                known[key].speedup,
                self.options.decisive(evaluation, loss_limit),
            )
            if key in known
            else Observation(flatten(evaluation.parameters), 0.0, math.inf)
            for key, evaluation in self.history.evaluations.items()
        ]
        return [one for one in seen if space.holds(one.point)]

    def losses(
        self, limit: float, whole: Space, space: Space, parts: Sequence[LossModel]
    ) -> LossModel:
        """What is known of the losses of this cell.

        Args:
            limit: the loss limit, the unit in which losses are seen.
            whole: all candidates that make sense.
            space: those that may be tried; what was evaluated outside of it is left out.
            parts: the same of the cells that this one consists of.
        """
        changes, model = self._losses.get(limit, (-1, None))
        if model is None or changes != self.history.changes or [*model.parts] != [*parts]:
            evaluated = [
                (
                    flatten(each.parameters),
                    math.inf if each.failure else self.options.decisive(each, limit),
                )
                for each in self.history.evaluations.values()
                if not (each.failure and each.passing)
            ]
            known = [(point, loss) for point, loss in evaluated if space.holds(point)]
            model = LossModel(whole, limit, known, parts)
            self._losses[limit] = self.history.changes, model
        return model

    def timed(self, loss_limit: float) -> list[Estimate]:
        """Those of the estimates that were timed."""
        return [each for each in self.estimates(loss_limit) if each.timed]

    def front(self, loss_limit: float) -> list[Measurement]:
        """All that was measured of what no other beats in both speedup and loss. With other limits
        what is compared with the loss limit takes the place of the loss."""
        timed = self.timed(loss_limit)
        if not self.options.limits:
            return pareto.front([self.measurement(each) for each in timed])
        return [self.measurement(each) for each in pareto.front(map(Estimate.reported, timed))]

    def measurement(self, known: Estimate) -> Measurement:
        """All that was measured of a candidate that was timed, with its reported speedup, and with
        what it uses of the limits that are asked for here."""
        key = digest(known.parameters)
        row = Measurement.of(self.history.evaluations[key], self.history.speeds.measured(key))
        own = [each.words for each in self.options.limits]
        used = {words: row.used[words] for words in own if words in row.used}
        return replace(row, speedup=known.reported().speedup, used=used)

    def best(self, choose: Choose, loss_limit: float) -> Measurement | None:
        """What is chosen of all that was timed, by the reported speedups."""
        chosen = choose([each.reported() for each in self.timed(loss_limit)])
        return None if chosen is None else self.measurement(chosen)

    def fastest(self, loss_limit: float) -> Estimate | None:
        """The fastest within the limit of all that was timed."""
        return pareto.bound(self.timed(loss_limit), loss_limit)

    def bound(self, loss_limit: float) -> Measurement | None:
        """The same with all that was measured of it."""
        chosen = self.fastest(loss_limit)
        return None if chosen is None else self.measurement(chosen)

    def closest(self, target: float, loss_limit: float) -> Estimate | None:
        """What is fast enough, but of a loss that is not clearly below the limit."""
        unclear = [
            each
            for each in self.estimates(loss_limit)
            if each.speedup >= target and self.unclear(each.parameters, loss_limit)
        ]
        return min(unclear, key=lambda each: each.loss, default=None)

    def clear(self, chosen: Measurement | None, target: float, loss_limit: float) -> bool:
        """Whether the prompts tell that what was chosen for a target keeps the limit, or, where
        nothing was, that nothing does."""
        if chosen is None:
            return self.closest(target, loss_limit) is None
        evaluation = self.history.evaluations[digest(chosen.parameters)]
        return self.below(evaluation, loss_limit) is True
