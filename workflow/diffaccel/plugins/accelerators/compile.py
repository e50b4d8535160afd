"""Compilation: the U-Net's repeated blocks and the decoder as fused kernels, at no loss.

Jason Ansel and others, "PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode
Transformation and Graph Compilation", ASPLOS 2024; applied through ``torch.compile`` itself.

Blocks are compiled one by one rather than the U-Net as a whole: the same kind of block is compiled
once for each of its shapes, and what replaces or leaves out blocks still can.
"""

from __future__ import annotations

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
    from torch import nn

RECOMPILES = 512
"""One kind of block is compiled for each of its shapes; torch gives up at 8 of them."""
RESAMPLING = {
    "ResnetBlock2D": "diffusers.models.resnet",
    "Downsample2D": "diffusers.models.downsampling",
    "Upsample2D": "diffusers.models.upsampling",
}
TRANSFORMER = {"Transformer2DModel": "diffusers.models.transformers.transformer_2d"}
FEED_FORWARD = {"FeedForward": "diffusers.models.attention"}
FUSING = (
    "from typing import Any",
    "from diffusers.models.attention_processor import Attention",
)
"""What `fuse_projections` imports in a script."""
INSIDE_TRANSFORMERS = ("tgate", "tome")
"""Accelerators that replace parts of the transformer blocks as they go: these stay uncompiled."""


@dataclass(frozen=True)
class Params:
    """How the blocks are laid out.

    Args:
        channels_last: images in memory pixel by pixel (NHWC) rather than channel by channel, which
            is what convolutions on tensor cores want and eager group normalisation does not.
    """

    channels_last: bool


def regions(others: Parts) -> dict[str, str]:
    """Classes of the U-Net's modules that are compiled, each with the module it comes from."""
    whole = not any(name in others for name in INSIDE_TRANSFORMERS)
    return RESAMPLING | (TRANSFORMER if whole else FEED_FORWARD)


class Compile(Accelerator):
    name: ClassVar[str] = "compile"
    title: ClassVar[str] = "torch.compile"
    package: ClassVar[str] = "torch"
    source: ClassVar[str] = "https://doi.org/10.1145/3620665.3640366"
    order: ClassVar[int] = 5
    Params: ClassVar[type] = Params
    ways: ClassVar[tuple[Way, ...]] = (
        Way(calls=("torch.compile",)),
        Way(calls=("pipe.unet.compile",)),
        Way(calls=("pipe.unet.compile_repeated_blocks",)),
    )
    writes: ClassVar[tuple[str, ...]] = ("del forward",)
    # Fused kernels round elsewhere than the single ones.
    tolerance: ClassVar[float] = 0.02

    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        return (Axis("channels_last", (False, True), (False, True)),)

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        if not pipeline.block_layers:
            return (
                False,
                f"needs a U-Net with down and up blocks; {pipeline.pipeline_class} has none",
            )
        return True, ""

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """The same at every step; it depends on the others what is compiled."""
        levels = (float(own["channels_last"]), float(regions(others) == regions({})))
        cost = pipeline.relative_cost(0.75)
        return (StepKind("compiled", levels, relative_cost=cost, spread=0.3),) * pipeline.calls

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        import torch

        from diffaccel.plugins.accelerators import _attention

        kinds = tuple(regions(others))
        torch._dynamo.config.recompile_limit = RECOMPILES
        if own["channels_last"]:
            for part in (pipe.unet, pipe.vae):
                _to_channels_last(part)
        if "tgate" not in others:  # which calls the single projections
            _attention.fuse_projections(pipe.unet)
        found = [module for module in pipe.unet.modules() if type(module).__name__ in kinds]
        for module in (*found, pipe.vae.decoder):
            module.forward = torch.compile(module.forward, dynamic=False)
        return pipe

    def definitions(self) -> tuple[str, ...]:
        from diffaccel.plugins.accelerators import _attention

        return (inspect.getsource(_attention.fuse_projections),)

    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        kinds = regions(others)
        fuses = "tgate" not in others
        layout = ("pipe.unet", "pipe.vae") if own["channels_last"] else ()
        modules = "for module in [*pipe.unet.modules(), pipe.vae.decoder]:"
        return Emitted(
            imports=(
                "import torch",
                *(f"from {module} import {kind}" for kind, module in kinds.items()),
                *(FUSING if fuses else ()),
            ),
            definitions=self.definitions() if fuses else (),
            enter=(
                f"torch._dynamo.config.recompile_limit = {RECOMPILES}  # a block has many shapes",
                *(f"{part}.to(memory_format=torch.channels_last)" for part in layout),
                *(("fused = fuse_projections(pipe.unet)",) if fuses else ()),
                f"compiled = ({', '.join(kinds)})",
                modules,
                "    if isinstance(module, compiled) or module is pipe.vae.decoder:",
                "        module.forward = torch.compile(module.forward, dynamic=False)",
            ),
            leave=(
                modules,
                "    if isinstance(module, compiled) or module is pipe.vae.decoder:",
                '        vars(module).pop("forward", None)',
                *(("if fused:", "    pipe.unet.unfuse_qkv_projections()") if fuses else ()),
                *(f"{part}.to(memory_format=torch.contiguous_format)" for part in layout),
            ),
        )


def _to_channels_last(part: nn.Module) -> None:
    """Puts copies of the convolutions' weights, in the other layout, in their places."""
    import torch

    for module in part.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.dim() == 4:
                copy = weight.detach().to(memory_format=torch.channels_last)
                setattr(module, name, torch.nn.Parameter(copy, requires_grad=False))


PLUGIN = Compile()
