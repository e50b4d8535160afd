"""What measuring gives: baselines, timings and evaluations, as they are kept.

Times are in seconds, scores are CLIP scores (0 to 100), losses are relative (0.02 is 2%).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from diffaccel.evaluation.sequential import InterimAnalyses
from diffaccel.evaluation.timing_error import freedom, standard_error
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.prompts import Prompt, as_json, subjects_of, texts_of
from diffaccel.plugins.accelerators._pipeline import PipelineSpec
from diffaccel.plugins.models._spec import ModelSpec
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import UNSAID, digest, to_json

GIB = 1 << 30
"""Bytes."""


@dataclass(frozen=True)
class Environment:
    """Where a measurement was made."""

    platform: str
    device: str
    driver: str
    dtype: str
    attention: str
    threads: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Usage:
    """What calls of a pipeline take beside time.

    Args:
        device_bytes: of a GPU's memory at most: the weights of the pipeline, and what calls take on
            top, as torch allocates it; CUDA itself takes some more. None on a CPU.
        host_bytes: of the machine's memory at most, of the whole process that measures: libraries
            and the scorer are part of it. None where Linux does not tell.
        joules: of a GPU, for an image; None where the driver does not tell, or the calls were too
            short to.
    """

    device_bytes: int | None = None
    host_bytes: int | None = None
    joules: float | None = None

    @classmethod
    def of(cls, each: Iterable[Usage | None]) -> Usage | None:
        """Of calls that were made one after the other: the most memory, the mean of the energy."""
        some = [usage for usage in each if usage is not None]
        if not some:
            return None
        device = [usage.device_bytes for usage in some if usage.device_bytes is not None]
        host = [usage.host_bytes for usage in some if usage.host_bytes is not None]
        joules = [usage.joules for usage in some if usage.joules is not None]
        return cls(
            max(device, default=None),
            max(host, default=None),
            statistics.mean(joules) if joules else None,
        )

    @property
    def memory(self) -> int | None:
        """Bytes of the memory that is short: a GPU's, or the machine's where there is none."""
        return self.host_bytes if self.device_bytes is None else self.device_bytes

    def without_energy(self) -> Usage:
        """Of calls beside which others may have computed on the device as well."""
        return replace(self, joules=None)


@dataclass(frozen=True)
class Baseline:
    """The baseline pipeline of one configuration.

    Args:
        fingerprint: everything that determines images and times.
        digest: hash of it, without the prompts: of what all measurements beside it share. Those
            that a measurement was made with belong to it alone; see `diffaccel.evaluation.keys`.
        pipeline: what search spaces depend on.
        scores: per prompt, by metric name.
        shuffled_score: mean score with each image given another image's prompt.
        shuffled_scores: of each image; none in records of before.
        seconds: times of whole calls, each of ``images_per_call`` prompts.
        image_digests: hash of each image's pixels.
        usage: what its calls took; None in records of before.
        warnings: what a reader should know, e.g. a smaller batch than was asked for.
        metrics: what determines the values of each metric besides the usual ones, by name; None:
            there are none besides.
    """

    configuration: Configuration
    spec: ModelSpec
    options: MeasureOptions
    fingerprint: dict[str, str]
    digest: str
    environment: Environment
    pipeline: PipelineSpec
    prompts: list[Prompt]
    scores: dict[str, list[float]]
    shuffled_score: float
    seconds: list[float]
    image_digests: list[str]
    date: str
    warnings: list[str] = field(default_factory=list)
    shuffled_scores: list[float] = field(default_factory=list)
    usage: Usage | None = None
    metrics: Annotated[dict[str, str] | None, UNSAID] = None

    @functools.cached_property
    def whole(self) -> str:
        """Hash of it with all its prompts: of what is decided beside it."""
        return digest([self.digest, as_json(self.prompts)])

    @property
    def texts(self) -> list[str]:
        """Of the prompts."""
        return texts_of(self.prompts)

    @property
    def subjects(self) -> list[str]:
        """What tells the prompts apart."""
        return subjects_of(self.prompts)

    def is_named(self, name: str) -> bool:
        """Whether what is decided beside something was decided beside this; records of schema 1
        have its digest alone."""
        return name in (self.whole, self.digest)

    def provenance(self) -> dict[str, Any]:
        """What its digest is of, as JSON: inputs by their hashes, and in words."""
        named = (self.configuration, self.spec, self.options, self.environment)
        configuration, spec, options, environment = map(to_json, named)
        return {
            "fingerprint": self.fingerprint,
            "configuration": configuration,
            "spec": spec,
            "options": options,
            "environment": environment,
            "prompts": as_json(self.prompts),
        }

    @property
    def images_per_call(self) -> int:
        """How many a timed call makes, the baseline's or a candidate's: fewer than a batch where
        there are not so many prompts."""
        return min(self.spec.batch_size, len(self.prompts))

    @property
    def seconds_per_image(self) -> float:
        """Of a whole call, the median, over its images."""
        return statistics.median(self.seconds) / self.images_per_call

    @functools.cached_property
    def analyses(self) -> InterimAnalyses:
        """When it is tested whether a loss is below a limit."""
        options = self.options
        count, prompts = len(self.prompts), tuple(self.subjects)
        return InterimAnalyses(
            self.spec.batch_size, options.images, count, options.confidence, prompts
        )


@dataclass(frozen=True)
class Timing:
    """Interleaved timed pairs of whole pipeline calls.

    Args:
        baseline, accelerated: seconds of each pair, in order.
        speedup: median of the pairs' ratios; like all that follows, of the pairs that count.
        speedup_of_means: ratio of the mean times.
        spread: half the interquartile range of the ratios over their median. Of few pairs it reads
            too small: it decides whether there are more, and ``error`` says how far off they are.
        outliers: which pairs do not count, from 0: too far from the others; they were repeated.
        drift: by how much the ratio changed from the first pair to the last, relative; 0 where it
            went up and down.
        gpu: id of the GPU on which they were taken, if it was one.
    """

    baseline: list[float]
    accelerated: list[float]
    speedup: float
    speedup_of_means: float
    spread: float
    outliers: list[int] = field(default_factory=list)
    drift: float = 0.0
    gpu: str | None = None

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Seconds of the baseline and of the accelerated call, a pair each."""
        return list(zip(self.baseline, self.accelerated, strict=True))

    @property
    def counted(self) -> int:
        """How many pairs count."""
        return len(self.baseline) - len(self.outliers)

    @property
    def error(self) -> float:
        """Standard error of the speedup, relative; infinite where there is one pair. It is told by
        all pairs: those that are left where the farthest do not count look nearer to
        each other than they are."""
        return standard_error([math.log(baseline / own) for baseline, own in self.pairs])

    @property
    def freedom(self) -> float:
        """Degrees of freedom of ``error``: how well it is known itself."""
        return freedom(len(self.baseline))


@dataclass(frozen=True)
class Evaluation:
    """What one candidate generates, compared with its baseline; nothing of its speed.

    Args:
        loss: relative loss of the mean score; negative where the accelerated one scores higher.
        loss_interval: confidence interval of the loss over the prompts, at ``confidence``.
        scores: per prompt, by metric name.
        means: mean per metric.
        first_call: seconds of putting it on and calling it once; compiling is part of it.
        spent: seconds that all of it took.
        failure: why it can never be chosen (crash, blank images), else None. A crashed candidate
            has loss 1 and no scores.
        warnings: what a reader should know, e.g. that it was evaluated in smaller batches, or that
            the timing was noisy.
        passing: why it could not be evaluated, or not with more prompts, where that may pass (no
            time or no memory, a lost device). It is tried again by the next run.
        usage: what its calls took; None in records of before.
    """

    parameters: ParametersDict
    loss: float
    loss_interval: tuple[float, float]
    scores: dict[str, list[float]]
    means: dict[str, float]
    first_call: float | None
    spent: float
    date: str
    failure: str | None = None
    warnings: list[str] = field(default_factory=list)
    passing: str | None = None
    confidence: float | None = None
    usage: Usage | None = None

    @property
    def memory(self) -> int | None:
        """Bytes that its calls took at most, of the memory that is short; None where that was not
        measured."""
        return self.usage.memory if self.usage else None

    @property
    def prompts(self) -> int:
        """How many it was evaluated with; none where it crashed."""
        return min(map(len, self.scores.values()), default=0)


@dataclass(frozen=True)
class SpeedRow:
    """How fast one candidate is; nothing of its loss.

    Args:
        parameters: by accelerator; empty for the baseline pipeline beside itself, which shows how
            far the timing can be trusted.
        timing: None where it failed.
        first_call: seconds of putting it on and calling it once, before any timing: what it
            prepares (compiles, say) is in here. None where it was called before.
        spent: seconds that it took; where several were timed together, its share.
        failure: why there is no timing, e.g. too little memory.
        warnings: what a reader should know, e.g. a noisy timing.
        passing: the failure, where it may pass; it is tried again by the next run.
        usage, baseline_usage: what its calls took, and those of the baseline pipeline beside it;
            None in records of before.
    """

    parameters: ParametersDict
    timing: Timing | None
    first_call: float | None
    spent: float
    date: str
    failure: str | None = None
    warnings: list[str] = field(default_factory=list)
    passing: str | None = None
    usage: Usage | None = None
    baseline_usage: Usage | None = None

    @property
    def speedup(self) -> float | None:
        """None where it failed."""
        return self.timing.speedup if self.timing else None


@dataclass(frozen=True)
class TimingRow:
    """A timing, and of what: the steps of one model take the same time in other configurations of
    it, so that what was timed there tells something here.

    Args:
        baseline: digest of the baseline that it was timed beside.
    """

    baseline: str
    pipeline: PipelineSpec
    row: SpeedRow


@dataclass(frozen=True, kw_only=True)
class Measurement(Evaluation):
    """A candidate that was timed, too: see `SpeedRow`.

    Args:
        speedup: what may be reported: that of ``timing``, or less where all that was timed of the
            configuration lets expect less; 0 where it failed.
    """

    speedup: float
    timing: Timing | None
    baseline_usage: Usage | None = None

    @classmethod
    def of(cls, evaluation: Evaluation, timed: SpeedRow) -> Measurement:
        """What was evaluated and what was timed of the same candidate, together."""
        both = vars(evaluation) | {
            "spent": evaluation.spent + timed.spent,
            "date": timed.date,
            "failure": evaluation.failure or timed.failure,
            "passing": evaluation.passing or timed.passing,
            "warnings": [*evaluation.warnings, *timed.warnings],
            "usage": Usage.of([evaluation.usage, timed.usage]),
            "baseline_usage": timed.baseline_usage,
        }
        return cls(**both, speedup=timed.speedup or 0.0, timing=timed.timing)


@dataclass(frozen=True)
class Ceiling:
    """What a plain matrix product reaches on a device: no network can be faster.

    Args:
        tflops: TFLOP per second.
        size: rows and columns of the square factors.
        dtype: torch's name of it.
    """

    tflops: float
    size: int
    dtype: str
