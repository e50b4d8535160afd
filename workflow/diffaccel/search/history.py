"""What was measured of a cell, on disk and in memory."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diffaccel.evaluation import limits
from diffaccel.evaluation.records import Baseline, Evaluation, SpeedRow
from diffaccel.evaluation.scores import loss_interval
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import Limit
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.space import ParametersDict, in_words
from diffaccel.search.requests import EvaluationRequest
from diffaccel.search.timings import MeasuredSpeeds
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest

log = logging.getLogger(__name__)


@dataclass
class CellHistory:
    """The evaluations and the timings of a cell.

    Args:
        journal: of the evaluations.
        speeds: what was timed of the whole configuration; shared by its cells.
        limits: all that anybody asks of a candidate beside the loss limit.
        evaluations: the last one of each candidate, by its digest.
        changes: how often something was evaluated since this was made.
    """

    cell: Cell
    baseline: Baseline
    journal: Journal[Evaluation]
    speeds: MeasuredSpeeds
    limits: Sequence[Limit] = ()
    evaluations: dict[str, Evaluation] = field(default_factory=dict, init=False)
    changes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for evaluation in self.journal.rows():
            if evaluation.passing is None:
                self.evaluations[digest(evaluation.parameters)] = self._as_now(evaluation)

    def _as_now(self, evaluation: Evaluation) -> Evaluation:
        """With the interval of the confidence, and with the limits, that are asked for now."""
        confidence = self.baseline.options.confidence
        evaluation = limits.with_used(evaluation, self.baseline, self.limits)
        if evaluation.confidence in (None, confidence):
            return evaluation
        scores, count = evaluation.scores[SCORE], len(evaluation.scores[SCORE])
        own, prompts = self.baseline.scores[SCORE][:count], self.baseline.subjects[:count]
        interval = loss_interval(own, scores, confidence, prompts)
        return replace(evaluation, loss_interval=interval, confidence=confidence)

    def owns(self, parameters: ParametersDict) -> bool:
        """Whether a candidate is of this cell's accelerators."""
        return sorted(parameters) == list(self.cell.accelerators)

    @property
    def timings(self) -> dict[str, list[SpeedRow]]:
        """Of its candidates, by digest; some are timed, and not worth an evaluation then."""
        timed = self.speeds.timings.items()
        return {key: rows for key, rows in timed if self.owns(rows[0].parameters)}

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

    def request(self, parameters: ParametersDict) -> EvaluationRequest:
        """What evaluating a candidate up to the next interim analysis takes."""
        before = self.evaluations.get(digest(parameters))
        analyses = self.baseline.analyses.at
        prompts = next(
            analysis for analysis in analyses if before is None or analysis > before.prompts
        )
        return EvaluationRequest(self.cell, parameters, prompts, before)

    def add_evaluation(self, row: Evaluation) -> None:
        """Keeps an evaluation, on disk first."""
        self.journal.append(row)
        self.evaluations[digest(row.parameters)] = limits.with_used(row, self.baseline, self.limits)
        self.changes += 1
        what = f"({row.failure})" if row.failure else f"after {row.prompts} prompts"
        log.info("%s: %s: loss %+.4f %s", self.cell.slug, in_words(row.parameters), row.loss, what)

    def add_timing(self, row: SpeedRow, expected: float, error: float) -> None:
        """Keeps a timing, on disk first.

        Args:
            expected: log-speedup that was predicted.
            error: its standard deviation.
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
