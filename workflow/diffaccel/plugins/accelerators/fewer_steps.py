"""Fewer steps: the plain sampler along a shorter way, which asks for no package and no patch.

Jiaming Song, Chenlin Meng, Stefano Ermon, "Denoising Diffusion Implicit Models", ICLR 2021,
arXiv:2010.02502, section 4.2; the schedulers themselves choose the times of the steps that are
left. Whatever makes steps cheaper has to be better than making fewer of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from diffaccel.plugins.accelerators.base import (
    Accelerator,
    Call,
    Emitted,
    Parts,
    PipelineSpec,
    StepKind,
    Way,
)
from diffaccel.plugins.space import Axis, Value

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

FEWEST = 0.1
"""Least share of the steps that a search leaves."""


@dataclass(frozen=True)
class Params:
    """What the call is given in place of its own number of steps.

    Args:
        steps: ``num_inference_steps``.
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps!r}")


class FewerSteps(Accelerator):
    name: ClassVar[str] = "fewer_steps"
    title: ClassVar[str] = "fewer steps"
    package: ClassVar[str] = "diffusers"
    source: ClassVar[str] = "https://arxiv.org/abs/2010.02502"
    order: ClassVar[int] = 1
    Params: ClassVar[type] = Params
    # Nothing is put on: who reads a script counts its steps.
    ways: ClassVar[tuple[Way, ...]] = ()

    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        fewest = max(1, math.ceil(FEWEST * pipeline.steps))
        every = range(pipeline.steps - 1, fewest - 1, -1)
        counts = tuple(count for count in every if pipeline.run_of(count))
        return (Axis("steps", counts, counts),)

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        if pipeline.steps_run < 2:
            return False, f"needs 2 steps or more, one to leave out; got {pipeline.steps_run}"
        return True, ""

    def conflicts(self, others: Sequence[str]) -> str | None:
        if not others:
            return None
        return (
            "goes with no other accelerator. A gate or an interval is counted in steps, and would "
            "mean something else in a shorter call. Measure fewer steps as a configuration of its "
            "own"
        )

    def excludes(self, own: Mapping[str, Value], pipeline: PipelineSpec) -> str | None:
        if own["steps"] >= pipeline.steps:
            return f"steps {own['steps']} are not fewer than {pipeline.steps}"
        if not pipeline.run_of(int(own["steps"])):
            return f"of {own['steps']} steps none is left at strength {pipeline.strength}"
        return None

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """Of a step that is left out, nothing is left."""
        left = min(pipeline.calls_in(int(own["steps"])), pipeline.calls)
        left_out = StepKind("left out", relative_cost=0.001, spread=0.1)
        return (None,) * left + (left_out,) * (pipeline.calls - left)

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        # A copy, since only what the pipeline and its modules hold is put back.
        pipe.scheduler = copy.copy(pipe.scheduler)

        def call(*args: Any, **kwargs: Any) -> Any:
            return pipe(*args, **{**kwargs, "num_inference_steps": own["steps"]})

        return call

    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        return Emitted(
            imports=(),
            enter=(),
            leave=(),
            arguments=(("num_inference_steps", repr(own["steps"])),),
        )


PLUGIN = FewerSteps()
