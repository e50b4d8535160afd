"""The only place that times, and the only one that compares images.

Rules: the clock holds one whole pipeline call and nothing else (not the loading, the putting on of
an accelerator, the scoring); the device is synchronised on both sides; baseline and candidate are
timed in interleaved pairs on the same prompts, the order within a pair alternating; the speedup is
the median of the pairs' ratios. Candidate and baseline have the same prompts, seeds and noise.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from diffaccel import devices
from diffaccel.errors import InputError
from diffaccel.metrics import METRICS, SCORE
from diffaccel.metrics.base import Compute, Images
from diffaccel.records import (
    Baseline,
    Measurement,
    MeasureOptions,
    ModelSpec,
    SettingDict,
    Setup,
    Timing,
)

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)

Generate = Callable[[list[str], list[int]], Sequence[Any]]
"""From prompts and seeds to PIL images."""
Applied = Callable[[], AbstractContextManager[Generate]]
"""Puts an accelerator on, gives what to call, and takes it off again."""
T = TypeVar("T")

_BOOTSTRAP_DRAWS = 2000
_CLEARLY = 3.0
"""Standard errors by which a baseline must score above shuffled prompts."""


class MeasureError(InputError):
    """A measurement that would mean nothing; says why."""


@dataclass(frozen=True)
class Bench:
    """A loaded pipeline with its prompts and metrics: everything a measurement needs.

    Args:
        pipe: the plain pipeline with its scheduler set.
        prompts: of the whole prompt set; prompt i is generated with seed ``options.seed + i``.
        metrics: by name.
    """

    pipe: DiffusionPipeline
    setup: Setup
    spec: ModelSpec
    options: MeasureOptions
    prompts: list[str]
    device: str
    metrics: dict[str, Compute]

    def arguments(self, prompts: list[str], seeds: list[int]) -> dict[str, Any]:
        """Keyword arguments of a pipeline call. The noise comes from one CPU generator a prompt, so
        that it depends on neither the device nor the batch."""
        import torch

        return {
            "prompt": prompts,
            "num_inference_steps": self.setup.steps,
            "guidance_scale": self.spec.guidance_scale,
            "height": self.spec.height,
            "width": self.spec.width,
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        }

    def calling(self, call: Callable[..., Any]) -> Generate:
        """What generates images through ``call``, the pipeline or what stands in its place."""
        return lambda prompts, seeds: call(**self.arguments(prompts, seeds)).images

    @contextlib.contextmanager
    def plain(self) -> Iterator[Generate]:
        """The unaccelerated pipeline."""
        yield self.calling(self.pipe)

    def batches(self) -> list[slice]:
        """The prompt set in batches; the last may be short."""
        size = self.spec.batch_size
        return [slice(start, start + size) for start in range(0, len(self.prompts), size)]

    def call(self, applied: Applied, batch: slice) -> tuple[Images, float]:
        """Images of one batch, and the seconds of the call."""
        prompts = self.prompts[batch]
        seeds = [self.options.seed + i for i in range(*batch.indices(len(self.prompts)))]
        with applied() as generate:
            images, seconds = timed(lambda: generate(prompts, seeds), self.device)
        return np.stack([np.asarray(image.convert("RGB")) for image in images]), seconds

    def score(self, images: Images, references: Images | None) -> dict[str, list[float]]:
        """Every metric that can be computed, per image."""
        return {
            name: self.metrics[name](images, self.prompts, references)
            for name, metric in METRICS.items()
            if references is not None or not metric.needs_reference
        }


def today() -> str:
    """Now, in UTC, to the second; for records, never for timing."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
    """What measuring the plain pipeline gives."""

    images: Images
    scores: dict[str, list[float]]
    shuffled_score: float
    seconds: list[float]


def measure_baseline(bench: Bench) -> BaselineRun:
    """Images, scores and times of the plain pipeline over the prompt set, after a warm-up call."""
    batches = bench.batches()
    bench.call(bench.plain, batches[0])
    images, seconds = [], []
    with devices.hold_clock(bench.device):
        for batch in batches:
            made, took = bench.call(bench.plain, batch)
            images.append(made)
            if len(made) == len(bench.prompts[batches[0]]):
                seconds.append(took)
    together = np.concatenate(images)
    scores = bench.score(together, None)
    return BaselineRun(together, scores, _shuffled_score(bench, together), seconds)


def _shuffled_score(bench: Bench, images: Images) -> float:
    """Mean score of each image with the prompt of the image before it."""
    others = bench.prompts[-1:] + bench.prompts[:-1]
    return float(np.mean(bench.metrics[SCORE](images, others, None)))


def check_baseline(baseline: Baseline) -> str | None:
    """Why a baseline cannot carry a relative loss, or None.

    Its images must fit their own prompts clearly better than each other's: where they do not,
    the score says nothing of the images, and neither does a loss of it.
    """
    scores = np.array(baseline.scores[SCORE])
    if len(scores) < 2:
        return f"{len(scores)} prompt(s) cannot tell a loss from noise; use at least 2"
    error = float(scores.std(ddof=1) / math.sqrt(len(scores)))
    if scores.mean() - baseline.shuffled_score > _CLEARLY * error:
        return None
    return (
        f"the baseline's images score {scores.mean():.2f} with their own prompts and "
        f"{baseline.shuffled_score:.2f} with each other's (standard error {error:.2f}): the score "
        "does not tell whether an image fits its prompt, so a loss of it would mean nothing. "
        "Check the model, the scorer and the prompts"
    )


def loss_of(baseline: Sequence[float], accelerated: Sequence[float]) -> float:
    """Relative loss of the mean score."""
    reference = float(np.mean(baseline))
    return (reference - float(np.mean(accelerated))) / reference


def loss_interval(
    baseline: Sequence[float], accelerated: Sequence[float], confidence: float
) -> tuple[float, float]:
    """Percentile bootstrap interval of the relative loss, over prompts drawn in pairs.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    first, second = np.asarray(baseline), np.asarray(accelerated)
    draws = np.random.default_rng(0).integers(0, len(first), (_BOOTSTRAP_DRAWS, len(first)))
    means = first[draws].mean(axis=1)
    losses = (means - second[draws].mean(axis=1)) / means
    tail = (1 - confidence) / 2
    low, high = np.quantile(losses, [tail, 1 - tail])
    return float(low), float(high)


def timing_of(pairs: Sequence[tuple[float, float]]) -> Timing:
    """Summary of (baseline, accelerated) seconds."""
    first, second = np.array(pairs).T
    ratios = first / second
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return Timing(
        baseline=first.tolist(),
        accelerated=second.tolist(),
        speedup=float(middle),
        speedup_of_means=float(first.mean() / second.mean()),
        spread=float((high - low) / 2 / middle),
    )


def measure(
    bench: Bench, baseline: Baseline, references: Images, applied: Applied, setting: SettingDict
) -> Measurement:
    """Measures one candidate against the baseline: time in pairs, images of the whole prompt set.

    Args:
        references: the baseline's images, in the order of the prompts.
        applied: puts the candidate on.

    A candidate that raises is a result, not an error: it is recorded with its message. An error of
    the device itself is raised.
    """
    start = time.perf_counter()
    try:
        images, timing, warnings = _run(bench, references, applied)
    except Exception as error:
        if "CUDA" in str(error):
            raise
        log.warning("failed: %s: %s", setting, error)
        failure = f"{type(error).__name__}: {error}"
        return _crashed(setting, failure, time.perf_counter() - start)
    scores = bench.score(images, references)
    before, after = baseline.scores[SCORE], scores[SCORE]
    blank = _blank(images)
    return Measurement(
        setting=setting,
        speedup=timing.speedup,
        loss=loss_of(before, after),
        loss_interval=loss_interval(before, after, bench.options.confidence),
        timing=timing,
        scores=scores,
        means={name: float(np.mean(values)) for name, values in scores.items()},
        spent=time.perf_counter() - start,
        date=today(),
        failure=f"{blank} of {len(images)} images are blank" if blank else None,
        warnings=warnings,
    )


def _crashed(setting: SettingDict, failure: str, spent: float) -> Measurement:
    return Measurement(
        setting=setting,
        speedup=0.0,
        loss=1.0,
        loss_interval=(1.0, 1.0),
        timing=None,
        scores={},
        means={},
        spent=spent,
        date=today(),
        failure=failure,
    )


def _run(bench: Bench, references: Images, applied: Applied) -> tuple[Images, Timing, list[str]]:
    """All batches once; those that are not needed for pairs first, where they serve as warm-up."""
    batches = bench.batches()
    full = [batch for batch in batches if len(references[batch]) == len(references[batches[0]])]
    paired = full[-bench.options.pairs :]
    images: dict[int, Images] = {}
    for batch in [batch for batch in batches if batch not in paired] or paired[:1]:
        images[batch.start], _ = bench.call(applied, batch)
    pairs: list[tuple[float, float]] = []
    warnings: list[str] = []
    for pair in _pairs(bench, applied, paired):
        pairs.append(pair.seconds)
        images[pair.batch.start] = pair.made
        if not warnings and not np.array_equal(pair.plain, references[pair.batch]):
            warnings.append("the baseline's images were not the same when made again")
    timing = timing_of(pairs)
    warnings += _noise(timing, bench.options)
    return np.concatenate([images[batch.start] for batch in batches]), timing, warnings


def time_alone(bench: Bench, applied: Applied) -> tuple[float, Timing, list[str]]:
    """Times one candidate on the first batch in pairs, as `measure` does, and scores nothing.

    Returns:
        The seconds of putting it on and calling it for the first time, where what it prepares
        once is made (compiled, say); the pairs that follow; what a reader should know of them.
    """
    batch = bench.batches()[0]
    (images, _), first = timed(lambda: bench.call(applied, batch), bench.device)
    timing = timing_of([pair.seconds for pair in _pairs(bench, applied, [batch])])
    warnings = _noise(timing, bench.options)
    if blank := _blank(images):
        warnings.append(f"{blank} of {len(images)} images are blank: its numbers overflowed")
    return first, timing, warnings


def _noise(timing: Timing, options: MeasureOptions) -> list[str]:
    if timing.spread <= options.spread:
        return []
    return [f"the clock was noisy: spread {timing.spread:.1%} after {len(timing.baseline)} pairs"]


def _blank(images: Images) -> int:
    """How many images are of one colour."""
    return int(np.sum(images.std(axis=(1, 2, 3)) == 0))


@dataclass(frozen=True)
class _Pair:
    """Baseline and candidate on the same batch, called one after the other."""

    batch: slice
    plain: Images
    made: Images
    seconds: tuple[float, float]


def _pairs(bench: Bench, applied: Applied, batches: Sequence[slice]) -> Iterator[_Pair]:
    """Timed pairs until they are enough and agree; the clock is held in between."""
    seconds: list[tuple[float, float]] = []
    with devices.hold_clock(bench.device):
        while _wants_more(seconds, bench.options):
            batch = batches[len(seconds) % len(batches)]
            pair = _pair(bench, applied, batch, candidate_first=len(seconds) % 2 == 1)
            seconds.append(pair.seconds)
            yield pair


def _pair(bench: Bench, applied: Applied, batch: slice, *, candidate_first: bool) -> _Pair:
    if candidate_first:
        made, after = bench.call(applied, batch)
        plain, before = bench.call(bench.plain, batch)
    else:
        plain, before = bench.call(bench.plain, batch)
        made, after = bench.call(applied, batch)
    return _Pair(batch, plain, made, (before, after))


def _wants_more(pairs: Sequence[tuple[float, float]], options: MeasureOptions) -> bool:
    if len(pairs) < options.pairs:
        return True
    return len(pairs) < options.max_pairs and timing_of(pairs).spread > options.spread
