"""The only place that times candidates: no other file makes a `Timing` of calls.

A timing holds one whole pipeline call and nothing else: not the loading, the putting on of an
accelerator, or the scoring. The device is exclusive, and is synchronised on both sides of a call.
Baseline and candidate are timed in interleaved pairs on the same prompts, the order within a pair
alternating. The speedup is the median of the pairs' ratios, and a pair too far from the others is
repeated (`diffaccel.evaluation.pairs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.calls import Bench, Called, Candidate, in_parts, timed
from diffaccel.evaluation.pairs import drifts, timing_of, want_more
from diffaccel.evaluation.records import SpeedRow
from diffaccel.evaluation.scores import count_blank
from diffaccel.evaluation.usage import Total
from diffaccel.experiment.options import MeasureOptions
from diffaccel.machine.watch import Failure
from diffaccel.plugins.metrics.base import Images
from diffaccel.store.jsonio import today


@dataclass
class _Trial:
    """A candidate while it is timed.

    Args:
        first: seconds of its first call, untimed otherwise, in which it prepares what it needs
            once (compiles, say).
        pairs: seconds of the baseline and of the candidate, a round each.
        images, batch: of the last call.
        total: what the timed calls took.
    """

    candidate: Candidate
    first: float | None = None
    pairs: list[tuple[float, float]] = field(default_factory=list)
    images: Images | None = None
    batch: slice = field(default_factory=lambda: slice(None))
    failure: Failure | None = None
    warnings: list[str] = field(default_factory=list)
    total: Total = field(default_factory=Total)

    def prepare(self, bench: Bench, batch: slice) -> None:
        """Calls it once, untimed, unless it was called before."""
        if not self.candidate.warm and (made := self.call(bench, batch)):
            self.first = made.whole

    def call(self, bench: Bench, batch: slice) -> Called | None:
        """One call, or None where it failed: that is a result, not an error. An error of the
        device itself is raised."""
        try:
            made = bench.called(self.candidate, batch)
        except Exception as error:
            self.failure = bench.failure(self.candidate, error)
            return None
        self.images, self.batch = made.images, batch
        self.warnings = self.warnings or in_parts("timed", [made], [batch])
        return made

    def wants_more(self, options: MeasureOptions, late: bool) -> bool:
        """Whether the pairs that count are too few, differ too much, or drift, or do not tell
        whether a goal is reached.

        Args:
            late: there is no time for more than the fewest.
        """
        if self.failure is not None:
            return False
        if want_more(self.pairs, options, short=self.candidate.short or late):
            return True
        return not late and any(goal.wants_more(self.pairs) for goal in self.candidate.goals)


def time_candidates(
    bench: Bench,
    candidates: Sequence[Candidate],
    references: Images | None = None,
    budget: Budget | None = None,
) -> list[SpeedRow]:
    """Times candidates in pairs with the baseline pipeline, while the device is exclusive.

    They are timed in rounds: each has one call of the baseline pipeline and one of each candidate,
    so that several candidates share a baseline that was timed right beside them.

    Args:
        references: the baseline's images, in the order of the prompts, to notice where it has
            changed.
        budget: how long; when it is over, no more pairs are timed than must be.

    Returns:
        A row for each candidate, in their order; one that raised is recorded with its message.
    """
    batches = bench.batches()
    full = [batch for batch in batches if len(bench.prompts[batch]) == bench.spec.batch_size]
    paired = (full or batches[:1])[-bench.options.pairs :]
    trials = [_Trial(candidate) for candidate in candidates]
    for trial in trials:
        trial.prepare(bench, paired[0])
    with bench.device.exclusive():
        baseline = Total()
        again, spent = timed(
            lambda: _rounds(bench, trials, paired, budget or Budget(), baseline), bench.device.name
        )
        others = bench.device.others()
    changed = references is not None and any(
        not np.array_equal(images, references[batch]) for batch, images in again
    )
    noted = ["the baseline's images were not the same when made again"] if changed else []
    noted += [f"the GPU was shared with {each}" for each in others]
    rows = [_speed_row(bench, trial, spent / len(trials), noted, references) for trial in trials]
    return [replace(row, baseline_usage=baseline.usage()) for row in rows]


def _rounds(
    bench: Bench,
    trials: Sequence[_Trial],
    batches: Sequence[slice],
    budget: Budget,
    total: Total,
) -> list[tuple[slice, Images]]:
    """Times rounds until every trial has enough pairs that agree.

    Every other round goes backwards. Gives the first images of the baseline of each batch.

    Args:
        total: gets what the calls of the baseline pipeline take.
    """
    baseline: dict[int, tuple[slice, Images]] = {}
    number = 0
    while active := [each for each in trials if each.wants_more(bench.options, budget.over)]:
        batch = batches[number % len(batches)]
        seconds: dict[int, float] = {}
        # The first place is the baseline's.
        for place in range(len(active) + 1)[:: -1 if number % 2 else 1]:
            trial = active[place - 1] if place else None
            made = trial.call(bench, batch) if trial else bench.call(bench.baseline, batch)
            if made is None:
                continue
            seconds[place] = made.seconds
            (trial.total if trial else total).add(made.usage, made.seconds)
            if not place:
                baseline.setdefault(batch.start, (batch, made.images))
        for place in seconds:
            if place:
                active[place - 1].pairs.append((seconds[0], seconds[place]))
        number += 1
    return list(baseline.values())


def _speed_row(
    bench: Bench, trial: _Trial, spent: float, noted: Sequence[str], references: Images | None
) -> SpeedRow:
    parameters, first = trial.candidate.parameters, trial.first
    if (failure := trial.failure) is not None or trial.images is None:
        reason = failure.reason if failure else None
        passing = reason if failure and failure.passing else None
        return SpeedRow(parameters, None, first, spent, today(), reason, passing=passing)
    gpu, options = bench.device.gpu, bench.options
    timing = replace(timing_of(trial.pairs), gpu=gpu.uuid if gpu else None)
    warnings = [*trial.warnings, *noted]
    if timing.spread > options.spread:
        count = timing.counted
        warnings.append(f"the timing was noisy: spread {timing.spread:.1%} after {count} pairs")
    if drifts(timing, options):
        warnings.append(f"the speedup drifted by {timing.drift:+.1%} while it was timed")
    same = None if references is None else references[trial.batch]
    if new_blank := count_blank(trial.images, same):
        count = len(trial.images)
        warnings.append(f"{new_blank} of {count} images are blank: the numbers overflowed")
    return SpeedRow(
        parameters, timing, first, spent, today(), warnings=warnings, usage=trial.total.usage()
    )
