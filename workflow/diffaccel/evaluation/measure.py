"""The only place that times, and the only one that compares images.

A candidate is evaluated (images of the whole prompt set, scored) beside other jobs, and timed
alone.
Rules of timing: a timing holds one whole pipeline call and nothing else (not the loading, the
putting on of an accelerator, the scoring); the device is synchronised on both sides; baseline and
candidate are timed in interleaved pairs on the same prompts, the order within a pair alternating;
the speedup is the median of the pairs' ratios, and a pair too far from the others is repeated
(`diffaccel.evaluation.pairs`). Candidate and baseline have the same prompts, seeds and noise.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffaccel.errors import InputError
from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.failures import Blamed, failure_of, free_memory, is_out_of_memory
from diffaccel.evaluation.pairs import Goal, drifts, timing_of, want_more
from diffaccel.evaluation.records import Baseline, Evaluation, Measurement, SpeedRow, Usage
from diffaccel.evaluation.sequential import SkewedMean, clustered
from diffaccel.evaluation.usage import Meter, Total
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.machine.devices import Device
from diffaccel.machine.watch import PLAIN, Failure, Watch
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.metrics import METRICS, SCORE
from diffaccel.plugins.metrics.base import Compute, Images
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import digest, today

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)

Generate = Callable[[list[str], list[int]], Sequence[Any]]
"""From prompts and seeds to PIL images."""
Applied = Callable[[], AbstractContextManager[Generate]]
"""Puts an accelerator on, gives what to call, and takes it off again."""
T = TypeVar("T")

_CLEARLY = 3.0
"""Standard errors by which a baseline must score above shuffled prompts."""


class MeasureError(InputError):
    """A measurement that would mean nothing; says why."""


@dataclass(frozen=True)
class Called:
    """One call of a pipeline.

    Args:
        seconds: of the call itself.
        whole: with the putting on and taking off of accelerators.
        size: how many images it drew at once: fewer than it was asked for where there was not
            enough memory, so that it is several calls, one after the other.
        usage: what else it took.
    """

    images: Images
    seconds: float
    whole: float
    size: int
    usage: Usage


@dataclass(frozen=True)
class Bench:
    """A loaded pipeline with its prompts and metrics: everything a measurement needs.

    Args:
        pipe: the baseline pipeline with its scheduler set.
        prompts: of the whole prompt set; prompt i is generated with seed ``options.seed + i``.
        device: all work on it is done within its ``beside`` or ``alone``.
        metrics: by name.
        watch: told of every call, and ends those that hang.
    """

    pipe: DiffusionPipeline
    configuration: Configuration
    spec: ModelSpec
    options: MeasureOptions
    prompts: list[str]
    device: Device
    metrics: dict[str, Compute]
    watch: Watch = field(default_factory=Watch)

    def arguments(self, prompts: list[str], seeds: list[int]) -> dict[str, Any]:
        """Keyword arguments of a pipeline call. The noise comes from one CPU generator a prompt, so
        that it depends on neither the device nor the batch."""
        import torch

        return {
            "prompt": prompts,
            "num_inference_steps": self.configuration.steps,
            "guidance_scale": self.spec.guidance_scale,
            "height": self.spec.height,
            "width": self.spec.width,
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        }

    @property
    def pipeline(self) -> PipelineSpec:
        """What search spaces and emitted code depend on."""
        scale = self.spec.guidance_scale
        return PipelineSpec.of(self.pipe, steps=self.configuration.steps, guidance_scale=scale)

    def calling(self, call: Callable[..., Any]) -> Generate:
        """What generates images through ``call``, the pipeline or what stands in its place."""
        return lambda prompts, seeds: call(**self.arguments(prompts, seeds)).images

    @contextlib.contextmanager
    def plain(self) -> Iterator[Generate]:
        """The unaccelerated pipeline."""
        yield self.calling(self.pipe)

    @contextlib.contextmanager
    def accelerated(self, parameters: ParametersDict) -> Iterator[Generate]:
        """The pipeline with the accelerators that a candidate names."""
        with combination(sorted(parameters)).applied(self.pipe, parameters) as call:
            yield self.calling(call)

    def batches(self, first: int = 0, end: int | None = None) -> list[slice]:
        """The prompts from the first on, up to the end, in batches; the last may be short."""
        end, size = len(self.prompts) if end is None else end, self.spec.batch_size
        return [slice(start, min(start + size, end)) for start in range(first, end, size)]

    def called(self, candidate: Candidate, batch: slice) -> Called:
        """Evaluates one batch with a candidate, in halves where the memory is not enough.

        Raises:
            Blamed: it ended the process before, or hung.
        """
        name = digest(candidate.parameters)
        if failure := self.watch.blamed.get(name):
            raise Blamed(failure)
        try:
            return self.call(candidate.applied, batch, name)
        except Exception as error:
            if not is_out_of_memory(error) or batch.stop - batch.start < 2:
                raise
        free_memory()
        middle = (batch.start + batch.stop) // 2
        first, second = (
            self.called(candidate, half)
            for half in (slice(batch.start, middle), slice(middle, batch.stop))
        )
        return Called(
            np.concatenate([first.images, second.images]),
            first.seconds + second.seconds,
            first.whole + second.whole,
            min(first.size, second.size),
            Usage.of([first.usage, second.usage]) or Usage(),
        )

    def failure(self, candidate: Candidate, error: Exception) -> Failure:
        """What to say of a candidate whose call raised; raises where the device is lost."""
        found = failure_of(error, self.device, self.watch, digest(candidate.parameters))
        log.warning("failed: %s: %s", candidate.parameters, found)
        return found

    def call(self, applied: Applied, batch: slice, name: str = PLAIN) -> Called:
        """Evaluates one batch.

        Args:
            name: of the candidate, for who watches.
        """
        prompts = self.prompts[batch]
        seeds = [self.options.seed + i for i in range(*batch.indices(len(self.prompts)))]
        meter = Meter(self.device, self.pipe)
        with self.device.shared(), self.watch.calling(name), meter.running(len(prompts)):
            start = time.perf_counter()
            with applied() as generate:
                images, seconds = timed(lambda: generate(prompts, seeds), self.device.name)
            whole = time.perf_counter() - start
        arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
        return Called(arrays, seconds, whole, len(arrays), meter.usage)

    def score(
        self, images: Images, references: Images | None, first: int = 0
    ) -> dict[str, list[float]]:
        """Every metric that can be computed, per image.

        Args:
            first: the prompt of the first image; the others' follow it.
        """
        prompts = self.prompts[first : first + len(images)]
        return {
            name: self.metrics[name](images, prompts, references)
            for name, metric in METRICS.items()
            if references is not None or not metric.needs_reference
        }


def image_digests(images: Images) -> list[str]:
    """Hash of each image's pixels."""
    return [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in images]


def timed(call: Callable[[], T], device: str) -> tuple[T, float]:
    """What a call gives, and its seconds until the device has done all of it."""
    _synchronise(device)
    start = time.perf_counter()
    result = call()
    _synchronise(device)
    return result, time.perf_counter() - start


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


@dataclass(frozen=True)
class BaselineRun:
    """What measuring the baseline pipeline gives."""

    images: Images
    scores: dict[str, list[float]]
    shuffled_scores: list[float]
    seconds: list[float]
    warnings: list[str]
    usage: Usage | None = None


def measure_baseline(bench: Bench, before: BaselineRun | None = None) -> BaselineRun:
    """Images, scores and times of the baseline pipeline over the prompt set, after a warm-up call.

    Args:
        before: what was measured of the first prompts; these are not measured again.

    Raises:
        MeasureError: all images are blank, or scores are no numbers.
    """
    first = len(before.images) if before else 0
    made = _evaluated_plain(bench, first)
    images = np.concatenate([*([before.images] if before else []), *(each.images for each in made)])
    warnings = _blank_baseline(bench, images)
    new = images[first:]
    with bench.device.shared():
        scores = bench.score(new, None, first) if len(new) else {}
        shuffled = _shuffled_scores(bench, images)
    if before:
        own = {name: before.scores[name] for name in scores or before.scores}
        scores = {name: own[name] + scores.get(name, []) for name in own}
    if reason := _unscored({**scores, "shuffled": shuffled}):
        raise MeasureError(
            f"{bench.configuration.slug}: the baseline pipeline's scores are {reason}: check the "
            "model, its "
            f"dtype ({bench.spec.dtype}) and the scorer {bench.spec.scorer}"
        )
    full = min(bench.spec.batch_size, len(bench.prompts))
    seconds = [each.seconds for each in made if len(each.images) == full]
    usage = Usage.of([*(each.usage for each in made), before.usage if before else None])
    known = before.seconds if before else seconds
    return BaselineRun(images, scores, shuffled, known, warnings, _memory(usage))


def _evaluated_plain(bench: Bench, first: int) -> list[Called]:
    """The baseline pipeline's calls for the prompts from the first on."""
    batches = bench.batches(first)
    if batches:
        bench.call(bench.plain, bench.batches()[0])
    with bench.device.exclusive():
        return [bench.call(bench.plain, batch) for batch in batches]


def _blank_baseline(bench: Bench, images: Images) -> list[str]:
    """What to say where images of the baseline pipeline are blank.

    Raises:
        MeasureError: all are, so that nothing could be compared with them.
    """
    empty = blank(images)
    if empty.all():
        raise MeasureError(
            f"{bench.configuration.slug}: all {len(images)} images of the baseline pipeline are "
            "blank (one "
            "colour each), so nothing can be compared with them. Numbers may have overflowed: try "
            f"another dtype (now {bench.spec.dtype}) or `vae`, and check the model's weights"
        )
    if not empty.any():
        return []
    some = [repr(bench.prompts[index]) for index in np.flatnonzero(empty)]
    listed = ", ".join(some[:3]) + (" and others" if len(some) > 3 else "")
    said = (
        f"{len(some)} of {len(images)} images are blank: of the prompts {listed}; a candidate may "
        "be blank there, too"
    )
    log.warning("%s: %s", bench.configuration.slug, said)
    return [said]


def _unscored(scores: Mapping[str, Sequence[float]]) -> str | None:
    """Which scores are not numbers, or None."""
    wrong = {name: int(np.sum(~np.isfinite(values))) for name, values in scores.items()}
    listed = [f"{name} of {count} images" for name, count in wrong.items() if count]
    return f"not a number: {', '.join(listed)}" if listed else None


def _shuffled_scores(bench: Bench, images: Images) -> list[float]:
    """Of each image with the prompt of the image before it."""
    others = bench.prompts[-1:] + bench.prompts[:-1]
    return bench.metrics[SCORE](images, others, None)


def check_baseline(baseline: Baseline) -> str | None:
    """Why a baseline cannot carry a relative loss, or None; see `check_scores`."""
    own = baseline.scores[SCORE]
    # Records of before hold the mean alone.
    return check_scores(own, baseline.shuffled_scores or [baseline.shuffled_score] * len(own))


def check_scores(own: Sequence[float], shuffled: Sequence[float]) -> str | None:
    """Why a relative loss of scores would mean nothing, or None.

    Images must fit their own prompts clearly better than each other's: where they do not, the score
    says nothing of the images, and neither does a loss of it.

    Args:
        own: of each image with its prompt.
        shuffled: of each image with another's prompt, in the same order.
    """
    if len(own) < 2:
        return f"{len(own)} prompt(s) cannot tell a loss from noise; use at least 2"
    better = np.asarray(own) - np.asarray(shuffled)
    error = float(better.std(ddof=1) / math.sqrt(len(better)))
    if better.mean() > _CLEARLY * error:
        return None
    return (
        f"the baseline's images score {np.mean(own):.2f} with their own prompts and "
        f"{np.mean(shuffled):.2f} with each other's (standard error of the difference "
        f"{error:.2f}): the score does not tell whether an image fits its prompt, so a loss of it "
        "would mean nothing. Check the model, the scorer and the prompts"
    )


def loss_of(baseline: Sequence[float], accelerated: Sequence[float]) -> float:
    """Relative loss of the mean score."""
    reference = float(np.mean(baseline))
    return (reference - float(np.mean(accelerated))) / reference


def loss_interval(
    baseline: Sequence[float],
    accelerated: Sequence[float],
    confidence: float,
    prompts: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Confidence interval of the relative loss, by Hall's transformation of its studentized value;
    the loss, a ratio of means, is taken as linear around its value (the delta method).

    Args:
        baseline, accelerated: scores of the same prompts and seeds.
        prompts: where one is there several times, with other seeds, its images count as one
            observation; None: all differ.
    """
    first, second = np.asarray(baseline), np.asarray(accelerated)
    loss = loss_of(baseline, accelerated)
    if len(first) < 2:
        return loss, loss
    each = (first - second - loss * first) / first.mean()
    if prompts is not None and len(set(prompts)) > 1:
        each = clustered(each, prompts)
    low, high = SkewedMean.of(each).interval(confidence)
    return loss + low, loss + high


@dataclass(frozen=True)
class Candidate:
    """A candidate, and what puts it on.

    Args:
        warm: whether this process called it before, so that nothing is left to prepare.
        prompts: how many it is evaluated with; None: with all that there are.
        goals: how fast it must be, of all that is to become clear.
        brief: whether few pairs are enough, however much they differ.
    """

    parameters: ParametersDict
    applied: Applied
    warm: bool = False
    prompts: int | None = None
    goals: tuple[Goal, ...] = ()
    short: bool = False


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
            again.
        keep: is given the images of the first prompts.

    Returns:
        What came out, that of before with it; of a candidate that raised, its message.
    """
    first = before.prompts if before else 0
    made: list[Called] = []
    try:
        for batch in bench.batches(first, candidate.prompts):
            made.append(bench.called(candidate, batch))
    except Exception as error:
        failure, spent = bench.failure(candidate, error), sum(each.whole for each in made)
        if failure.passing and before is not None:
            # What was evaluated is as good as it was.
            return replace(before, passing=failure.reason, spent=before.spent + spent)
        return _failed(candidate.parameters, failure, spent)
    images = np.concatenate([each.images for each in made])
    if keep is not None and before is None:
        keep(images)
    same = references[first : first + len(images)]
    with bench.device.shared():
        scores, scoring = timed(lambda: bench.score(images, same, first), bench.device.name)
    if reason := _unscored(scores):
        spent = sum(each.whole for each in made) + scoring
        return _failed(candidate.parameters, Failure(reason), spent)
    first_call: float | None = made[0].whole
    spent = sum(each.whole for each in made) + scoring
    if before is not None:
        scores = {name: before.scores[name] + values for name, values in scores.items()}
        spent, first_call = before.spent + spent, before.first_call
    plain = baseline.scores[SCORE][: first + len(images)]
    new_blank = count_blank(images, same)
    warnings = _in_parts("evaluated", made, bench.batches(first, candidate.prompts))
    usage = Usage.of([*(each.usage for each in made), before.usage if before else None])
    return Evaluation(
        parameters=candidate.parameters,
        loss=loss_of(plain, scores[SCORE]),
        loss_interval=loss_interval(
            plain, scores[SCORE], bench.options.confidence, bench.prompts[: len(plain)]
        ),
        scores=scores,
        means={name: float(np.mean(values)) for name, values in scores.items()},
        first_call=first_call,
        spent=spent,
        date=today(),
        failure=f"{new_blank} of {len(images)} images are blank" if new_blank else None,
        warnings=list(dict.fromkeys([*(before.warnings if before else []), *warnings])),
        confidence=bench.options.confidence,
        usage=_memory(usage),
    )


def _memory(usage: Usage | None) -> Usage | None:
    """Without energy: others may compute on the device as well."""
    return usage and replace(usage, joules=None)


def _in_parts(what: str, made: Sequence[Called], batches: Sequence[slice]) -> list[str]:
    """What to say where there was not enough memory for whole batches."""
    smaller = [
        f"not enough memory for {batch.stop - batch.start} images at once: {what} {called.size} "
        "at a time"
        for called, batch in zip(made, batches, strict=True)
        if called.size < batch.stop - batch.start
    ]
    return smaller[:1]


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
        self.warnings = self.warnings or _in_parts("timed", [made], [batch])
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
    """Times candidates in pairs with the baseline pipeline, alone on the device.

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
        plain = Total()
        again, spent = timed(
            lambda: _rounds(bench, trials, paired, budget or Budget(), plain), bench.device.name
        )
        others = bench.device.others()
    changed = references is not None and any(
        not np.array_equal(images, references[batch]) for batch, images in again
    )
    noted = ["the baseline's images were not the same when made again"] if changed else []
    noted += [f"the GPU was shared with {each}" for each in others]
    rows = [_speed_row(bench, trial, spent / len(trials), noted, references) for trial in trials]
    return [replace(row, baseline_usage=plain.usage()) for row in rows]


def _rounds(
    bench: Bench,
    trials: Sequence[_Trial],
    batches: Sequence[slice],
    budget: Budget,
    plain_total: Total,
) -> list[tuple[slice, Images]]:
    """Times rounds until every trial has enough pairs that agree.

    Every other round goes backwards. Gives the first images of the baseline of each batch.

    Args:
        plain_total: gets what the calls of the baseline pipeline take.
    """
    plain: dict[int, tuple[slice, Images]] = {}
    number = 0
    while active := [each for each in trials if each.wants_more(bench.options, budget.over)]:
        batch = batches[number % len(batches)]
        seconds: dict[int, float] = {}
        # The first place is the baseline's.
        for place in range(len(active) + 1)[:: -1 if number % 2 else 1]:
            made = active[place - 1].call(bench, batch) if place else bench.call(bench.plain, batch)
            if made is None:
                continue
            seconds[place] = made.seconds
            total = active[place - 1].total if place else plain_total
            total.add(made.usage, made.seconds)
            if not place:
                plain.setdefault(batch.start, (batch, made.images))
        for place in seconds:
            if place:
                active[place - 1].pairs.append((seconds[0], seconds[place]))
        number += 1
    return list(plain.values())


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
    beside = None if references is None else references[trial.batch]
    if new_blank := count_blank(trial.images, beside):
        count = len(trial.images)
        warnings.append(f"{new_blank} of {count} images are blank: the numbers overflowed")
    return SpeedRow(
        parameters, timing, first, spent, today(), warnings=warnings, usage=trial.total.usage()
    )


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


def blank(images: Images) -> NDArray[np.bool_]:
    """Which images are of one colour."""
    same: NDArray[np.bool_] = (images == images[:, :1, :1]).all(axis=(1, 2, 3))
    return same


def count_blank(images: Images, references: Images | None = None) -> int:
    """How many images are of one colour where the baseline's of the same prompts are not."""
    excused = False if references is None else blank(references)
    return int(np.sum(blank(images) & ~np.asarray(excused)))
