"""Lean transfers: the processor does not wait for what it knows, nor carry what it need not.

Szymon Migacz, "Performance Tuning Guide", PyTorch, 2020 ("Avoid unnecessary CPU-GPU
synchronization"); applied to diffusers' pipelines.

What is computed stays the same in every bit. diffusers puts the times of the steps on the GPU, and
its samplers and DeepCache then read them back, some of them many times a step: each time the
processor waits until the GPU has done all that it was given, and the GPU for what comes next.
Images leave the GPU as floating-point numbers, and the processor makes bytes of them.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from diffaccel.accelerators.base import Accelerator, Call, Emitted, Parts, Phase, PipelineFacts
from diffaccel.space import Axis, Value

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Params:
    """What is done beside keeping the times of the steps with the processor.

    Args:
        images: they are made bytes where they were drawn, and take a quarter of the way.
    """

    images: bool


def times_stay(set_timesteps: Callable[..., Any]) -> Callable[..., Any]:
    """A sampler's ``set_timesteps``, with times that the processor can read without waiting."""

    @functools.wraps(set_timesteps)
    def call(*args: Any, device: Any = None, **kwargs: Any) -> None:
        set_timesteps(*args, device="cpu", **kwargs)

    return call


def bytes_first(postprocess: Callable[..., Any]) -> Callable[..., Any]:
    """An image processor's ``postprocess``, which makes bytes before it makes PIL images."""
    from PIL import Image

    @functools.wraps(postprocess)
    def call(image: Any, output_type: str = "pil", **kwargs: Any) -> Any:
        if output_type != "pil" or image.shape[1] != 3:
            return postprocess(image, output_type=output_type, **kwargs)
        image = postprocess(image, output_type="pt", **kwargs).permute(0, 2, 3, 1).float()
        return [Image.fromarray(each) for each in (image * 255).round().byte().cpu().numpy()]

    return call


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

    def axes(self, facts: PipelineFacts) -> tuple[Axis, ...]:
        return (Axis("images", (False, True), (False, True)),)

    def supports(self, facts: PipelineFacts) -> tuple[bool, str]:
        if not facts.block_layers:
            return False, f"needs a U-Net; {facts.pipeline_class} has none"
        return True, ""

    def phases(
        self, own: Mapping[str, Value], others: Parts, facts: PipelineFacts
    ) -> tuple[Phase | None, ...]:
        """The same at every step, however the images leave."""
        return (Phase("unawaited", share=0.95, spread=0.1),) * facts.steps

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        # Copies, since only what the pipeline and its modules hold is put back.
        pipe.scheduler = copy.copy(pipe.scheduler)
        pipe.scheduler.set_timesteps = times_stay(pipe.scheduler.set_timesteps)
        if own["images"]:
            pipe.image_processor = copy.copy(pipe.image_processor)
            pipe.image_processor.postprocess = bytes_first(pipe.image_processor.postprocess)
        return pipe

    def emit(self, own: Mapping[str, Value], others: Parts, facts: PipelineFacts) -> Emitted:
        used: list[tuple[str, Wrap]] = [("pipe.scheduler.set_timesteps", times_stay)]
        if own["images"]:
            used.append(("pipe.image_processor.postprocess", bytes_first))
        return Emitted(
            imports=(
                "import functools",
                "from collections.abc import Callable",
                "from typing import Any",
            ),
            definitions=tuple(inspect.getsource(wrap) for _, wrap in used),
            enter=tuple(f"{method} = {wrap.__name__}({method})" for method, wrap in used),
            leave=tuple(f"del {method}" for method, _ in used),
        )


PLUGIN = Transfers()
