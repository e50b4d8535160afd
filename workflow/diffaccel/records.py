"""What the stages hand to each other: frozen, typed, each written as JSON by `diffaccel.jsonio`.

Times are in seconds, scores are CLIP scores (0 to 100), losses are relative (0.02 is 2%).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from diffaccel.accelerators.base import PipelineFacts
from diffaccel.grid import Cell, Setup
from diffaccel.jsonio import digest, to_json
from diffaccel.sequential import Looks
from diffaccel.space import Value
from diffaccel.timing_error import freedom, standard_error

GIB = 1 << 30
"""Bytes."""
SettingDict = dict[str, dict[str, Value]]


@dataclass(frozen=True)
class ModelSpec:
    """A model as it is measured.

    Args:
        name: as in tasks and paths.
        family: the file in `diffaccel.models` that loads it.
        source: a folder in diffusers' format, a single ``.safetensors`` file, or a hub id, with or
            without a revision: ``owner/name@revision``. All hub ids here may have one.
        height, width: image size in pixels.
        guidance_scale: of classifier-free guidance; at most 1 turns it off.
        batch_size: prompts per pipeline call.
        scorer: folder or hub id of the CLIP model that scores.
        prompts: file of prompts, one a line.
        heldout: file of prompts that nothing is chosen by, to prove scripts on; where it is None,
            what follows in ``prompts`` after those that are measured with.
        dtype: ``float32``, ``float16``, ``bfloat16``, or ``auto`` (half precision on a GPU).
        threads: CPU threads that a job computes on; 0 is all that it is given.
        jobs_per_gpu: how many jobs may draw with it on one GPU at once; more than 1 for networks
            too small to fill it. Only one is ever on the clock, alone.
        variant: of the weight files, as in ``unet/diffusion_pytorch_model.fp16.safetensors``.
        config: folder or hub id of the configuration that a single file is loaded with; the
            family's own where it is None.
        vae: folder or hub id of another VAE than the source's own.
        untrained: random weights, of the sizes of the folder that ``source`` names, or of the
            family's published sizes where it is empty. For speed alone: scores of such images
            mean nothing.
    """

    name: str
    family: str
    source: str
    height: int
    width: int
    guidance_scale: float
    batch_size: int
    scorer: str
    prompts: str
    dtype: str = "auto"
    threads: int = 0
    jobs_per_gpu: int = 1
    variant: str | None = None
    config: str | None = None
    vae: str | None = None
    untrained: bool = False
    heldout: str | None = None


@dataclass(frozen=True)
class MeasureOptions:
    """How much is measured.

    Args:
        prompts: how many prompts a setting is drawn with, from the first of the file on; fewer
            where it is clear before that it loses too much.
        max_prompts: how many an answer gets while its loss is not clearly below the limit, if there
            are so many; None: no more than any other setting.
        seed: of the first prompt; prompt i is generated with seed + i.
        pairs: interleaved timed pairs at least.
        max_pairs: pairs at most, while their spread is above ``spread``.
        spread: half the interquartile range of the pairs' ratios over their median that is
            good enough.
        confidence: of the interval of the loss.
    """

    prompts: int = 16
    max_prompts: int | None = None
    seed: int = 0
    pairs: int = 3
    max_pairs: int = 6
    spread: float = 0.03
    confidence: float = 0.95


@dataclass(frozen=True)
class SearchOptions:
    """How a cell is searched.

    Args:
        strategy: name of a file in `diffaccel.strategies`.
        space: ``grid``, the declared values of each parameter; ``coarse``, three of them in a
            combination, so that it can be measured as a whole; or ``full``, all that make sense.
        seed: for strategies that draw.
        loss_confidence: what must be below the limit: ``point``, the loss that was measured, or
            ``upper``, the upper end of its interval over the prompts.
        call_seconds: the longest that a call of a setting may take, its preparation (compiling,
            say) with it, before it counts as hung; ten plain calls at least.
        budget: seconds that a search of one setup may take; what is not decided then stays open.
            None: as long as it takes.
    """

    strategy: str
    space: Literal["coarse", "grid", "full"] = "grid"
    seed: int = 0
    loss_confidence: Literal["point", "upper"] = "point"
    call_seconds: float = 600.0
    budget: float | None = None

    def decisive(self, measured: Drawing) -> float:
        """The loss that is compared with the limit."""
        return measured.loss if self.loss_confidence == "point" else measured.loss_interval[1]


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


@dataclass(frozen=True)
class Baseline:
    """The unaccelerated pipeline of one setup.

    Args:
        identity: everything that determines images and times.
        digest: hash of it, without the prompts: of what all measurements beside it share. Those
            that a measurement was made with belong to it alone; see `diffaccel.keys`.
        facts: what search spaces depend on.
        scores: per prompt, by metric name.
        shuffled_score: mean score with each image given another image's prompt.
        shuffled_scores: of each image; none in records of before.
        seconds: times of whole calls, each of ``images_per_call`` prompts.
        image_digests: hash of each image's pixels.
        usage: what its calls took; None in records of before.
        warnings: what a reader should know, e.g. a smaller batch than was asked for.
    """

    setup: Setup
    spec: ModelSpec
    options: MeasureOptions
    identity: dict[str, str]
    digest: str
    environment: Environment
    facts: PipelineFacts
    prompts: list[str]
    scores: dict[str, list[float]]
    shuffled_score: float
    seconds: list[float]
    image_digests: list[str]
    date: str
    warnings: list[str] = field(default_factory=list)
    shuffled_scores: list[float] = field(default_factory=list)
    usage: Usage | None = None

    @functools.cached_property
    def whole(self) -> str:
        """Hash of it with all its prompts: of what is decided beside it."""
        return digest([self.digest, self.prompts])

    def is_named(self, name: str) -> bool:
        """Whether what is decided beside something was decided beside this; records of schema 1
        have its digest alone."""
        return name in (self.whole, self.digest)

    def about(self) -> dict[str, Any]:
        """What its digest is of, as JSON: inputs by their hashes, and in words."""
        named = (self.setup, self.spec, self.options, self.environment)
        setup, spec, options, environment = map(to_json, named)
        return {
            "identity": self.identity,
            "setup": setup,
            "spec": spec,
            "options": options,
            "environment": environment,
            "prompts": self.prompts,
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
    def looks(self) -> Looks:
        """When to look whether a loss is below a limit."""
        options = self.options
        count, prompts = len(self.prompts), tuple(self.prompts)
        return Looks(self.spec.batch_size, options.prompts, count, options.confidence, prompts)


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
        all pairs: those that are left where the farthest do not count look nearer to each other
        than they are."""
        return standard_error([math.log(plain / own) for plain, own in self.pairs])

    @property
    def freedom(self) -> float:
        """Degrees of freedom of ``error``: how well it is known itself."""
        return freedom(len(self.baseline))


@dataclass(frozen=True)
class Drawing:
    """What one setting draws, compared with its baseline; nothing of its speed.

    Args:
        loss: relative loss of the mean score; negative where the accelerated one scores higher.
        loss_interval: confidence interval of the loss over the prompts, at ``confidence``.
        scores: per prompt, by metric name.
        means: mean per metric.
        first_call: seconds of putting it on and calling it once; compiling is part of it.
        spent: seconds that all of it took.
        failure: why it can never be chosen (crash, blank images), else None. A crashed setting has
            loss 1 and no scores.
        warnings: what a reader should know, e.g. that it was drawn in smaller batches, or that the
            clock was noisy.
        passing: why it could not be drawn, or not with more prompts, where that may pass (no time
            or no memory, a lost device). It is tried again by the next run.
        usage: what its calls took; None in records of before.
    """

    setting: SettingDict
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
        """How many it was drawn with; none where it crashed."""
        return min(map(len, self.scores.values()), default=0)


@dataclass(frozen=True)
class SpeedRow:
    """How fast one setting is; nothing of its loss.

    Args:
        setting: by accelerator; empty for the plain pipeline beside itself, which shows how far
            the clock can be trusted.
        timing: None where it failed.
        first_call: seconds of putting it on and calling it once, before any timing: what it
            prepares (compiles, say) is in here. None where it was called before.
        spent: seconds that it took; where several were timed together, its share.
        failure: why there is no timing, e.g. too little memory.
        warnings: what a reader should know, e.g. a noisy clock.
        passing: the failure, where it may pass; it is tried again by the next run.
        usage, plain_usage: what its calls took, and those of the plain pipeline beside it; None in
            records of before.
    """

    setting: SettingDict
    timing: Timing | None
    first_call: float | None
    spent: float
    date: str
    failure: str | None = None
    warnings: list[str] = field(default_factory=list)
    passing: str | None = None
    usage: Usage | None = None
    plain_usage: Usage | None = None

    @property
    def speedup(self) -> float | None:
        """None where it failed."""
        return self.timing.speedup if self.timing else None


@dataclass(frozen=True)
class Clocking:
    """A timing, and of what: the steps of one model take the same time in other setups of it, so
    that what was timed there tells something here.

    Args:
        baseline: digest of the baseline that it was timed beside.
    """

    baseline: str
    facts: PipelineFacts
    row: SpeedRow


@dataclass(frozen=True, kw_only=True)
class Measurement(Drawing):
    """A setting that was timed, too: see `SpeedRow`.

    Args:
        speedup: what may be promised: that of ``timing``, or less where all that was timed of the
            setup lets expect less; 0 where it failed.
    """

    speedup: float
    timing: Timing | None
    plain_usage: Usage | None = None

    @classmethod
    def of(cls, drawing: Drawing, timed: SpeedRow) -> Measurement:
        """What was drawn and what was timed of the same setting, together."""
        both = vars(drawing) | {
            "spent": drawing.spent + timed.spent,
            "date": timed.date,
            "failure": drawing.failure or timed.failure,
            "passing": drawing.passing or timed.passing,
            "warnings": [*drawing.warnings, *timed.warnings],
            "usage": Usage.of([drawing.usage, timed.usage]),
            "plain_usage": timed.plain_usage,
        }
        return cls(**both, speedup=timed.speedup or 0.0, timing=timed.timing)


@dataclass(frozen=True)
class Rival:
    """What stands beside a chosen setting: of the rival's settings that are at least as fast, the
    one with the least loss.

    Args:
        timed: whether its speedup was measured; else it is predicted.
        beats: whether it loses strictly less than what was chosen; such a one was timed.
    """

    setting: SettingDict
    speedup: float
    timed: bool
    loss: float
    loss_interval: tuple[float, float]
    beats: bool


@dataclass(frozen=True)
class Frontier:
    """What is known of one cell.

    Args:
        status: ``measured``, or ``refused`` where the accelerators cannot work on the pipeline
            or its baseline cannot carry a relative loss; ``reason`` says which.
        bound: the fastest measurement with a loss below the limit, if any.
        clear: whether the prompts tell that its loss is, with the configured confidence.
        front: the settings that no other beats in both speedup and loss, mildest first.
        measured: how many settings were drawn and scored; they are in the journal.
        timed: how many were timed, some of them not drawn then; of the others the speed was only
            predicted.
        seconds: that drawing and timing took.
        candidates: how many settings the space has, before any is forbidden.
        rival: what the rival loses at the speed of the bound.
        time_up: whether the search's time was up before all that was worth measuring was.
        passing: how many settings failed for what may pass; the next run tries them again.
    """

    cell: Cell
    status: Literal["measured", "refused"]
    reason: str
    loss_limit: float
    search: SearchOptions
    baseline: str
    bound: Measurement | None
    front: list[Measurement]
    measured: int
    timed: int
    seconds: float
    candidates: int
    clear: bool = True
    rival: Rival | None = None
    time_up: bool = False
    passing: int = 0


@dataclass(frozen=True)
class Task:
    """One request, before it is answered. A task that was not understood has no cell.

    Args:
        origin: ``target`` (a configured speedup), ``bound`` (a share of the stored bound) or
            ``user`` (a line of the user's list).
        required: the speedup asked for. For ``bound`` and for a latency it is known only once these
            are; where the fastest is asked for, it is what was found.
        fraction: for ``bound``, the share of the stored ``max_speedup``.
        sentence: as given, or as made.
        problem: why a sentence could not be understood.
        latency_s: the seconds per image asked for; with neither these nor a speedup nor a fraction,
            the fastest is.
    """

    id: str
    origin: Literal["target", "bound", "user"]
    cell: Cell | None
    required: float | None
    fraction: float | None
    max_loss: float
    sentence: str | None
    problem: str | None = None
    latency_s: float | None = None

    @property
    def fastest(self) -> bool:
        """Whether the fastest is asked for that loses no more than it may."""
        return self.required is None and self.fraction is None and self.latency_s is None


@dataclass(frozen=True)
class Answer:
    """What became of a task.

    Args:
        status: ``met``; ``infeasible`` with a reason; ``open`` where nothing meets it and something
            failed for what may pass, so that the next run tries again; ``unparsed`` where the
            sentence was not understood.
        chosen: the measurement that meets the task with the least loss.
        nearest: where nothing meets it, the nearest reachable.
        environment: where it was measured.
        clear: whether the prompts tell, with the configured confidence, that the chosen loss is
            below the limit, or that nothing drawn that is fast enough has such a loss.
        rival: what the rival loses at the speed of ``chosen``.
    """

    task: Task
    status: Literal["met", "infeasible", "open", "unparsed"]
    reason: str
    chosen: Measurement | None
    nearest: Measurement | None
    environment: Environment | None
    clear: bool = True
    rival: Rival | None = None


@dataclass(frozen=True)
class HeldOut:
    """What a script loses on prompts and seeds that nothing was chosen by, compared with the plain
    pipeline on the same ones.

    Args:
        ok: whether that is below the limit.
        reason: what is wrong where ``ok`` is false.
        scores: per prompt, by metric name.
    """

    ok: bool
    reason: str
    loss: float
    loss_interval: tuple[float, float]
    scores: dict[str, list[float]]


Outcome = Literal["met", "not met", "undecided"]
"""What is said of a script that was measured again."""


@dataclass(frozen=True)
class Verdict:
    """A generated script, run and measured again.

    Args:
        outcome: ``met`` where the script ran, and speed and loss are as required; ``undecided``
            where no more than the clock is too noisy to tell that, after all the pairs of
            ``timing``.
        kept: the same of the speedup that was measured, which is more than was asked for.
        confidence: of what is said of the speed.
        required: the speedup that it must reach; where a latency was asked for, what that was then,
            and ``max_seconds_per_image`` is what counts.
        promised_speedup, promised_loss: from the search.
        speedup, seconds_per_image, loss, loss_interval: of the script itself.
        same_scores: whether every image scores exactly as it did in the search.
        reason: what is wrong or not clear where either of the two is not ``met``.
        script: hash of what it does; scripts of the same were measured once.
        heldout: its loss on other prompts; None where there are none. It has no part in the
            outcome: nothing was promised of them.
        passing: whether it failed for what may pass; the next run tries it again.
    """

    id: str
    script: str
    outcome: Outcome
    confidence: float
    reason: str
    required: float
    max_seconds_per_image: float | None
    max_loss: float
    promised_speedup: float
    promised_loss: float
    speedup: float | None
    seconds_per_image: float | None
    loss: float | None
    loss_interval: tuple[float, float] | None
    timing: Timing | None
    means: dict[str, float]
    same_scores: bool | None
    date: str
    heldout: HeldOut | None = None
    passing: bool = False
    kept: Outcome = "undecided"


@dataclass(frozen=True)
class Proven:
    """What was measured of a script. What that says is decided anew each time: it depends on what
    was asked of it, and how sure it must be.

    Args:
        script: hash of what it does, and of the prompts.
        heldout: on prompts that nothing was chosen by, where there are any.
    """

    script: str
    row: Measurement
    heldout: Drawing | None = None


@dataclass(frozen=True)
class Served:
    """How fast a script serves at a batch size, beside the plain pipeline at the same.

    Args:
        script: hash of what it does, and of the prompts.
        batch_size: images of a call.
        row: its calls, in pairs with those of the plain pipeline.
    """

    script: str
    batch_size: int
    row: SpeedRow


@dataclass(frozen=True)
class Search:
    """Everything that was found of one setup: a file of its own.

    Args:
        setup: None for the sentences that were not understood.
        cells: one an accelerator or combination.
        answers: to the tasks of these cells.
        rival: the cell that all are compared with. It is among ``cells`` only if it was asked for:
            it has no targets, tasks or scripts of its own, and enters no store.
    """

    setup: Setup | None
    cells: list[Frontier]
    answers: list[Answer]
    rival: Frontier | None = None

    @property
    def seconds(self) -> float:
        """That measuring all of it took."""
        every = {each.cell: each for each in (*self.cells, self.rival) if each is not None}
        return sum(each.seconds for each in every.values())

    @property
    def passing(self) -> int:
        """How many settings failed for what may pass."""
        return sum(each.passing for each in (*self.cells, self.rival) if each is not None)

    def answer(self, name: str) -> Answer | None:
        """The answer to a task, by id."""
        return next((each for each in self.answers if each.task.id == name), None)


@dataclass(frozen=True)
class Found:
    """What a search found of a cell: it is kept whatever is searched later.

    Args:
        answers: to the tasks that were met.
        date: when it was found, in UTC.
    """

    cell: Frontier
    answers: list[Answer]
    date: str


@dataclass(frozen=True)
class Proof:
    """The verdicts on all scripts of one setup: a file of its own.

    Args:
        heldout: the prompts that nothing was chosen by; their seeds follow those of the search.
        served: each script that runs at the baseline's batch size, and at those asked for.
        images_per_call: the baseline's batch size; 0 in records of before.
    """

    setup: Setup
    verdicts: list[Verdict]
    heldout: list[str] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    images_per_call: int = 0

    def own(self, script: str) -> Served | None:
        """A script at the baseline's batch size."""
        same = (each for each in self.served if each.script == script)
        return next((each for each in same if each.batch_size == self.images_per_call), None)

    @property
    def passing(self) -> int:
        """How many scripts failed for what may pass."""
        return sum(each.passing for each in self.verdicts)


@dataclass(frozen=True)
class Recipe:
    """A setting that was found, with what it was found on: one small file to share.

    Args:
        family: of the model; the setting can be put on any of it.
        source: hub id of the model, with its commit; None where it was a folder or a file, whose
            path says nothing elsewhere.
        height, width, guidance_scale: of the calls that were measured, as are ``batch_size`` and
            ``seed``, that of the first prompt.
        loss_interval: at ``confidence``, over the prompts.
        means: mean per metric, by name.
        environment: where it was measured; it works elsewhere, but is not as fast there.
    """

    model: str
    family: str
    source: str | None
    scheduler: str
    steps: int
    guidance_scale: float
    height: int
    width: int
    batch_size: int
    setting: SettingDict
    speedup: float
    loss: float
    loss_interval: tuple[float, float]
    confidence: float
    means: dict[str, float]
    prompts: list[str]
    seed: int
    environment: Environment
    date: str


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


@dataclass(frozen=True)
class SpeedRecord:
    """How fast one setup of an untrained model is, plain and accelerated. It has no score: no task
    and no script can be made from it.

    Args:
        untrained: always true; says so to whoever reads the file.
        digest: of all that determines the times.
        seconds: of a plain call of ``spec.batch_size`` prompts, the median.
        tflop: of a plain call: matrix products, convolutions and attention of all its networks.
        tflops: TFLOP per second of a plain call.
        share: of the ceiling that a plain call reaches.
    """

    setup: Setup
    spec: ModelSpec
    untrained: Literal[True]
    options: MeasureOptions
    digest: str
    environment: Environment
    seconds: float
    tflop: float
    tflops: float
    ceiling: Ceiling
    share: float
    rows: list[SpeedRow]
    date: str

    @property
    def passing(self) -> int:
        """How many settings failed for what may pass."""
        return sum(row.passing is not None for row in self.rows)
