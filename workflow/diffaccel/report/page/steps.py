"""Step counts compared: 25 accelerated steps compete with 50, and with 50 that are accelerated.

All configurations of a model and a sampler are compared with one of them, the baseline pipeline
with
the most steps: the same prompts and seeds, so that the losses are of the same images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from diffaccel.evaluation.records import Baseline
from diffaccel.evaluation.scores import loss_interval, loss_of
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.metrics import SCORE
from diffaccel.recipes.known import Known
from diffaccel.report.page.history import short

PLAIN = "baseline pipeline"


@dataclass(frozen=True)
class StepPoint:
    """A candidate, or the baseline pipeline.

    Args:
        series: the accelerators, or `PLAIN`.
        steps: of the configuration, before any is left out.
        seconds: of an image.
        loss, low, high: beside the baseline pipeline with the most steps, with its interval.
        parameters: the values, in words.
    """

    series: str
    steps: int
    seconds: float
    loss: float
    low: float
    high: float
    parameters: str


@dataclass(frozen=True)
class StepsView:
    """The configurations of a model and a sampler that differ in their steps.

    Args:
        reference: the steps of the baseline pipeline that all are compared with.
    """

    model: str
    scheduler: str
    reference: int
    points: list[StepPoint]


def compared(known: Iterable[Known]) -> Iterator[StepsView]:
    """A view for each model and sampler with several step counts."""
    groups: dict[tuple[str, str], list[Known]] = {}
    for each in known:
        configuration = each.baseline.configuration
        groups.setdefault((configuration.model, configuration.scheduler), []).append(each)
    for (model, scheduler), group in groups.items():
        longest = max(group, key=lambda each: each.baseline.configuration.steps).baseline
        same = [each for each in group if _comparable(each.baseline, longest)]
        if len(same) > 1:
            points = [point for each in same for point in _points(each, longest)]
            yield StepsView(model, scheduler, longest.configuration.steps, points)


def _comparable(one: Baseline, other: Baseline) -> bool:
    """Whether both have the same images to be compared by: prompts, seeds and sizes."""
    count = min(len(one.prompts), len(other.prompts))
    return (
        one.prompts[:count] == other.prompts[:count]
        and one.options.seed == other.options.seed
        and (one.spec.height, one.spec.width) == (other.spec.height, other.spec.width)
    )


def _points(known: Known, reference: Baseline) -> Iterator[StepPoint]:
    own = known.baseline
    steps, seconds = own.configuration.steps, own.seconds_per_image
    yield StepPoint(PLAIN, steps, seconds, *_loss(reference, own.scores[SCORE]), "")
    for names in known.every:
        for row in (option.measured for option in known.timed(names)):
            if row.timing is None or not row.scores:
                continue
            seconds = known.latency(row) / own.images_per_call
            loss = _loss(reference, row.scores[SCORE])
            yield StepPoint(combination(names).title, steps, seconds, *loss, short(row.parameters))


def _loss(reference: Baseline, scores: Sequence[float]) -> tuple[float, float, float]:
    """Over the prompts that both have."""
    count = min(len(scores), len(reference.prompts))
    plain, own = reference.scores[SCORE][:count], list(scores[:count])
    confidence = reference.options.confidence
    return (
        loss_of(plain, own),
        *loss_interval(plain, own, confidence, reference.subjects[:count]),
    )
