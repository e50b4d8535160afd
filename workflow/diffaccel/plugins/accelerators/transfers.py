"""Lean transfers: the processor does not wait for what it knows, nor carry what it need not.

Szymon Migacz, "Performance Tuning Guide", PyTorch, 2020 ("Avoid unnecessary CPU-GPU
synchronization"); applied to diffusers' pipelines.

What is computed stays the same in every bit. diffusers puts the times of the steps on the GPU, and
DDIM and DeepCache read them back at every step, DeepCache many times: each time the processor waits
until the GPU has done all that it was given, and then the GPU for what comes next. Images leave the
GPU as floating-point numbers, and the processor makes bytes of them.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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


@dataclass(frozen=True)
class Params:
    """What is done beside keeping the times of the steps with the processor.

    Args:
        images: they are made bytes where they were generated, and take a quarter of the way.
    """

    images: bool


class Transfers(Accelerator):
    name: ClassVar[str] = "transfers"
    title: ClassVar[str] = "lean transfers"
    package: ClassVar[str] = "diffusers"
    source: ClassVar[str] = (
        "https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html"
        "#avoid-unnecessary-cpu-gpu-synchronization"
    )
    order: ClassVar[int] = 9
    Params: ClassVar[type] = Params
    ways: ClassVar[tuple[Way, ...]] = (
        Way(calls=("pipe.scheduler.set_timesteps=", "pipe.unet.forward=")),
    )
    writes: ClassVar[tuple[str, ...]] = ("del set_timesteps", "del forward", "del postprocess")

    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        return (Axis("images", (False, True), (False, True)),)

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        if not pipeline.block_layers:
            return False, f"needs a U-Net; {pipeline.pipeline_class} has none"
        return True, ""

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """The same at every step, however the images leave."""
        return (StepKind("unawaited", relative_cost=0.95, spread=0.1),) * pipeline.calls

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        from diffaccel.plugins.accelerators import _transfers

        # Copies, since only what the pipeline and its modules hold is put back.
        pipe.scheduler = copy.copy(pipe.scheduler)
        pipe.scheduler.set_timesteps = _transfers.times_stay(pipe.scheduler)
        pipe.unet.forward = _transfers.times_follow(pipe.unet)
        if own["images"]:
            pipe.image_processor = copy.copy(pipe.image_processor)
            pipe.image_processor.postprocess = _transfers.bytes_first(pipe.image_processor)
        return pipe

    def definitions(self) -> tuple[str, ...]:
        from diffaccel.plugins.accelerators import _transfers as lean

        used = (lean.times_stay, lean.times_follow, lean.bytes_first)
        return tuple(inspect.getsource(each) for each in used)

    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        from diffaccel.plugins.accelerators import _transfers

        used = {
            "pipe.scheduler.set_timesteps": _transfers.times_stay,
            "pipe.unet.forward": _transfers.times_follow,
        }
        if own["images"]:
            used["pipe.image_processor.postprocess"] = _transfers.bytes_first
        parts = {method: method.rpartition(".")[0] for method in used}
        return Emitted(
            imports=(
                "import functools",
                "import torch",
                "from collections.abc import Callable",
                "from typing import Any",
            ),
            definitions=tuple(inspect.getsource(lean) for lean in used.values()),
            enter=tuple(
                f"{method} = {lean.__name__}({parts[method]})" for method, lean in used.items()
            ),
            leave=tuple(f"del {method}" for method in used),
        )


PLUGIN = Transfers()
