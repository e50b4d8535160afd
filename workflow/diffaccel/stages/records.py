"""What the later stages find: the verification of scripts, and the speed of untrained models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from diffaccel.evaluation.records import (
    Ceiling,
    Environment,
    Evaluation,
    Measurement,
    SpeedRow,
    Timing,
)
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.prompts import Prompt
from diffaccel.plugins.models._spec import ModelSpec
from diffaccel.store.jsonio import UNSAID


@dataclass(frozen=True)
class HeldOut:
    """What a script loses on prompts and seeds that nothing was chosen by. It is compared with the
    baseline pipeline on the same ones.

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
class ScriptResult:
    """A generated script, run and measured again.

    Args:
        outcome: ``met`` where the script ran, and speed and loss are as required; ``undecided``
            where no more than the timing is too noisy to tell that, after all the pairs of
            ``timing``.
        kept: the same of the speedup that was measured, which is more than was asked for.
        confidence: of what is said of the speed.
        required: the speedup that it must reach; where a latency was asked for, what that was then,
            and ``max_seconds_per_image`` is what counts.
        reported_speedup, reported_loss: from the search.
        speedup, seconds_per_image, loss, loss_interval: of the script itself.
        same_scores: whether every image scores exactly as it did in the search, by the metrics that
            there were then; None where one of the two has no scores.
        reason: what is wrong or not clear where either of the two is not ``met``.
        script: hash of what it does; scripts of the same were measured once.
        heldout: its loss on other prompts; None where there are none. It has no part in the
            outcome: nothing was reported of them.
        passing: whether it failed for what may pass; the next run tries it again.
        limits: what it must keep beside ``max_loss``, in words.
    """

    id: str
    script: str
    outcome: Outcome
    confidence: float
    reason: str
    required: float
    max_seconds_per_image: float | None
    max_loss: float
    reported_speedup: float
    reported_loss: float
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
    limits: Annotated[tuple[str, ...], UNSAID] = ()


@dataclass(frozen=True)
class VerifiedScript:
    """What was measured of a script. What that says is decided anew each time: it depends on what
    was asked of it, and how sure it must be.

    Args:
        script: hash of what it does, and of the prompts.
        heldout: on prompts that nothing was chosen by, where there are any.
    """

    script: str
    row: Measurement
    heldout: Evaluation | None = None


@dataclass(frozen=True)
class Served:
    """How fast a script serves at a batch size, beside the baseline pipeline at the same.

    Args:
        script: hash of what it does, and of the prompts.
        batch_size: images of a call.
        row: its calls, in pairs with those of the baseline pipeline.
    """

    script: str
    batch_size: int
    row: SpeedRow


@dataclass(frozen=True)
class Verification:
    """The results of all scripts of one configuration: a file of its own.

    Args:
        heldout: the prompts that nothing was chosen by; their seeds follow those of the search.
        served: each script that runs at the baseline's batch size, and at those asked for.
        images_per_call: the baseline's batch size; 0 in records of before.
    """

    configuration: Configuration
    results: list[ScriptResult]
    heldout: list[Prompt] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    images_per_call: int = 0

    def own(self, script: str) -> Served | None:
        """A script at the baseline's batch size."""
        same = (each for each in self.served if each.script == script)
        return next((each for each in same if each.batch_size == self.images_per_call), None)

    @property
    def passing(self) -> int:
        """How many scripts failed for what may pass."""
        return sum(each.passing for each in self.results)


@dataclass(frozen=True)
class SpeedRecord:
    """How fast one configuration of an untrained model is, with accelerators and without. It has no
    score: no task and no script can be made from it.

    Args:
        untrained: always true; says so to whoever reads the file.
        digest: of all that determines the times.
        seconds: of a call of the baseline pipeline, of ``spec.batch_size`` prompts; the median.
        tflop: of such a call: matrix products, convolutions and attention of all its networks.
        tflops: TFLOP per second of such a call.
        share: of the ceiling that such a call reaches.
    """

    configuration: Configuration
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
        """How many candidates failed for what may pass."""
        return sum(row.passing is not None for row in self.rows)
