"""Evaluating candidates: their images are scored and compared with those of the baseline.

Candidate and baseline have the same prompts, seeds and noise. Other jobs may use the device
meanwhile: what they disturb is the speed, which `diffaccel.evaluation.timing` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.calls import Bench, Called, Candidate, in_parts, timed
from diffaccel.evaluation.records import Baseline, Evaluation, Measurement, SpeedRow, Usage
from diffaccel.evaluation.scores import count_blank, loss_interval, loss_of, not_numbers
from diffaccel.evaluation.timing import time_candidates
from diffaccel.machine.watch import Failure
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.metrics.base import Images
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import today


def evaluate(
    bench: Bench,
    baseline: Baseline,
    references: Images,
    candidate: Candidate,
    before: Evaluation | None = None,
    keep: Callable[[Images], None] | None = None,
) -> Evaluation:
    """Evaluates and scores a candidate.

    Args:
        references: the baseline's images, in the order of the prompts.
        before: what was evaluated of the same candidate with fewer prompts; these are not evaluated
            again, also where a metric is new: what comes out is then without it.
        keep: is given the images of the first prompts.

    Returns:
        What came out, that of before with it; of a candidate that raised, its message.
    """
    first = before.prompts if before else 0
    batches, calls = bench.batches(first, candidate.prompts), list[Called]()
    try:
        for batch in batches:
            calls.append(bench.called(candidate, batch))
    except Exception as error:
        return _stopped(candidate, bench.failure(candidate, error), calls, before)
    images = np.concatenate([each.images for each in calls])
    if keep is not None and before is None:
        keep(images)
    same = references[first : first + len(images)]
    with bench.device.shared():
        scores, scoring = timed(lambda: bench.score(images, same, first), bench.device.name)
    spent = sum(each.whole for each in calls) + scoring
    if reason := not_numbers(scores):
        return _failed(candidate.parameters, Failure(reason), spent)
    usage, warnings = Usage.of(each.usage for each in calls), in_parts("evaluated", calls, batches)
    scored = _Scored(scores, calls[0].whole, spent, warnings, usage)
    if before is not None:
        scored = scored.after(before)
    failure = None
    if new_blank := count_blank(images, same):
        failure = f"{new_blank} of {len(images)} images are blank"
    return scored.evaluation(bench, baseline, candidate.parameters, failure)


@dataclass(frozen=True)
class _Scored:
    """What images gave that were scored; see `Evaluation`."""

    scores: dict[str, list[float]]
    first_call: float | None
    spent: float
    warnings: list[str]
    usage: Usage | None

    def after(self, before: Evaluation) -> _Scored:
        """With those of the prompts before them. A metric that was added meanwhile is left out:
        the images of before are gone, so that it cannot score them."""
        scores = self.scores.items()
        return _Scored(
            scores={
                name: before.scores[name] + own for name, own in scores if name in before.scores
            },
            first_call=before.first_call,
            spent=before.spent + self.spent,
            warnings=list(dict.fromkeys([*before.warnings, *self.warnings])),
            usage=Usage.of([before.usage, self.usage]),
        )

    def evaluation(
        self, bench: Bench, baseline: Baseline, parameters: ParametersDict, failure: str | None
    ) -> Evaluation:
        """Compared with the baseline."""
        own, confidence = self.scores[SCORE], bench.options.confidence
        reference, prompts = baseline.scores[SCORE][: len(own)], bench.subjects[: len(own)]
        return Evaluation(
            parameters=parameters,
            loss=loss_of(reference, own),
            loss_interval=loss_interval(reference, own, confidence, prompts),
            scores=self.scores,
            means={name: float(np.mean(values)) for name, values in self.scores.items()},
            first_call=self.first_call,
            spent=self.spent,
            date=today(),
            failure=failure,
            warnings=self.warnings,
            confidence=confidence,
            usage=self.usage and self.usage.without_energy(),
        )


def _stopped(
    candidate: Candidate, failure: Failure, calls: Sequence[Called], before: Evaluation | None
) -> Evaluation:
    """What is to be said where a call failed after these."""
    spent = sum(each.whole for each in calls)
    if failure.passing and before is not None:
        # What was evaluated is as good as it was.
        return replace(before, passing=failure.reason, spent=before.spent + spent)
    return _failed(candidate.parameters, failure, spent)


def _failed(parameters: ParametersDict, failure: Failure, spent: float) -> Evaluation:
    return Evaluation(
        parameters=parameters,
        loss=1.0,
        loss_interval=(1.0, 1.0),
        scores={},
        means={},
        first_call=None,
        spent=spent,
        date=today(),
        failure=failure.reason,
        passing=failure.reason if failure.passing else None,
    )


def crashed(parameters: ParametersDict, failure: Failure) -> Measurement:
    """What is to be said of a candidate that could not even be called."""
    return _whole(_failed(parameters, failure, 0.0), None)


def _whole(evaluation: Evaluation, timed: SpeedRow | None) -> Measurement:
    parameters, date, failure = evaluation.parameters, evaluation.date, evaluation.failure
    untimed = SpeedRow(parameters, None, None, 0.0, date, failure, passing=evaluation.passing)
    return Measurement.of(evaluation, timed or untimed)


def measure(
    bench: Bench, baseline: Baseline, references: Images, candidates: Sequence[Candidate]
) -> list[Measurement]:
    """Evaluates candidates one after the other, then times together those that can be."""
    evaluated = [evaluate(bench, baseline, references, candidate) for candidate in candidates]
    return timed_together(bench, candidates, evaluated, references)


def timed_together(
    bench: Bench,
    candidates: Sequence[Candidate],
    evaluated: Sequence[Evaluation],
    references: Images,
    budget: Budget | None = None,
) -> list[Measurement]:
    """What was evaluated of candidates, with the timings of those that can be timed."""
    warm = [replace(candidate, warm=True) for candidate in candidates]
    good = [each for each, made in zip(warm, evaluated, strict=True) if made.scores]
    rows = iter(time_candidates(bench, good, references, budget) if good else [])
    return [_whole(made, next(rows) if made.scores else None) for made in evaluated]
