"""All that was timed of a configuration, whichever its cells, and what that says of candidates."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import Baseline, SpeedRow, TimingRow, Usage
from diffaccel.plugins.accelerators import PipelineSpec
from diffaccel.plugins.space import ParametersDict, Point, nest
from diffaccel.search.acquisition import UNSURE
from diffaccel.search.gaussian import Floats
from diffaccel.search.speeds import SpeedModel
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest

LARGEST_ROUND = 16
"""Candidates at most that are timed in the same rounds."""
MOST_TRANSFERRED = 40
"""Candidates of the transfer data, at most, the newest: timed in other configurations of the model.
"""
LEAST_ERROR = 0.012
"""Relative error of a timing where the spread of its pairs tells of none."""


class MeasuredSpeeds:
    """The timings of a configuration, and the model of speeds that they give.

    Args:
        journal: of everything that was timed of the model, in this configuration and in others.
    """

    def __init__(self, baseline: Baseline, journal: Journal[TimingRow]) -> None:
        self.baseline, self.journal = baseline, journal
        self.timings: dict[str, list[SpeedRow]] = {}
        """By digest of the candidate, in their order."""
        self._transfer: list[tuple[ParametersDict, float, PipelineSpec]] = []
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
        newest = list(others.values())[-MOST_TRANSFERRED:]
        if newest != self._transfer:
            self._transfer, self._model = newest, None

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
        """Of all timings; another object when there are more."""
        if self._model is None:
            self._model = self._fit([])
        return self._model

    def _fit(self, fantasies: list[tuple[ParametersDict, float]]) -> SpeedModel:
        rows = itertools.chain.from_iterable(self.timings.values())
        known = [(row.parameters, row.speedup) for row in rows if row.speedup is not None]
        pipeline, error = self.baseline.pipeline, self._timing_error()
        return SpeedModel.fit([*known, *fantasies], pipeline, self._transfer, error)

    def _timing_error(self) -> float:
        """How far one timing is off, as the spreads of the pairs tell."""
        rows = itertools.chain.from_iterable(self.timings.values())
        errors = [row.timing.error for row in rows if row.timing and row.timing.counted > 1]
        return max(LEAST_ERROR, statistics.median(errors)) if errors else LEAST_ERROR

    def posterior(self, candidates: Sequence[ParametersDict]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the log-speedup of candidates, (n,) each, timed ones among
        them: what their own timings say, and what those of all others do."""
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
        """Mean and standard deviation of the log-speedup of points, (n,) each."""
        return self.model.predict([nest(point) for point in points])

    def active_learning(
        self, candidates: Sequence[ParametersDict], timed: Sequence[ParametersDict]
    ) -> list[ParametersDict]:
        """Those of the candidates to time beside others, `LARGEST_ROUND` with these at most, so
        that the rest is known well enough: the least sure one, then the least sure given that one,
        and so on."""
        chosen: list[ParametersDict] = []
        if not candidates:
            return chosen
        means, _ = self.model.predict(timed)
        fantasies = [(each, math.exp(mean)) for each, mean in zip(timed, means, strict=True)]
        model, rest = self._fit(fantasies), list(candidates)
        while rest and len(timed) + len(chosen) < LARGEST_ROUND:
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
