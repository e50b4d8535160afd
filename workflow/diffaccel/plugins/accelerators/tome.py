"""ToMe: attention works on fewer tokens, similar ones merged before and copied back after.

Daniel Bolya, Judy Hoffman, "Token Merging for Fast Stable Diffusion", CVPR Workshops 2023,
arXiv:2303.17604; applied through its own package, tomesd.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from diffaccel.plugins.accelerators.base import (
    Accelerator,
    Call,
    Emitted,
    Parts,
    PipelineSpec,
    StepKind,
    UnsupportedError,
    Way,
)
from diffaccel.plugins.space import Axis, Value

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

MERGE_SEED = 0
"""tomesd draws which tokens stay; so that a candidate always gives the same images, from this.
"""
DOWNSAMPLES = (1, 2, 4, 8)
RATIOS = tuple(round(0.05 * i, 2) for i in range(2, 19))
STRIDES = (2, 4)
DEFAULTS: dict[str, Value] = {
    "sx": 2,
    "sy": 2,
    "merge_attn": True,
    "merge_crossattn": False,
    "merge_mlp": False,
}
"""tomesd.apply_patch's own, not repeated in scripts."""


@dataclass(frozen=True)
class Params:
    """tomesd.apply_patch's parameters.

    Args:
        ratio: share of the tokens that is merged away.
        max_downsample: blocks at up to this downsampling of the latents merge; 1, 2, 4 or 8.
        sx, sy: one token of each ``sx`` by ``sy`` stays for others to merge into, which caps the
            ratio at ``1 - 1 / (sx * sy)``.
        merge_attn, merge_crossattn, merge_mlp: which layers of a block work on merged tokens.
    """

    ratio: float
    max_downsample: int = 1
    sx: int = 2
    sy: int = 2
    merge_attn: bool = True
    merge_crossattn: bool = False
    merge_mlp: bool = False

    def __post_init__(self) -> None:
        if min(self.sx, self.sy) < 1:
            raise ValueError(f"sx and sy must be 1 or more, got {self.sx!r} and {self.sy!r}")
        cap = 1 - 1 / (self.sx * self.sy)
        if not 0 < self.ratio <= cap:
            raise ValueError(
                f"ratio must be above 0 and at most 1 - 1 / (sx * sy) = {cap:g}, got {self.ratio!r}"
            )
        if self.max_downsample not in DOWNSAMPLES:
            raise ValueError(
                f"max_downsample must be one of {DOWNSAMPLES}, got {self.max_downsample!r}"
            )
        if not (self.merge_attn or self.merge_crossattn or self.merge_mlp):
            raise ValueError(
                "nothing is merged: merge_attn, merge_crossattn or merge_mlp must be on"
            )


class ToMe(Accelerator):
    name: ClassVar[str] = "tome"
    title: ClassVar[str] = "ToMe"
    package: ClassVar[str] = "tomesd"
    source: ClassVar[str] = "https://arxiv.org/abs/2303.17604"
    order: ClassVar[int] = 30
    Params: ClassVar[type] = Params
    ways: ClassVar[tuple[Way, ...]] = (
        Way(
            calls=("tomesd.apply_patch",),
            undone=("tomesd.remove_patch",),
            told_by="tomesd.apply_patch",
            takes=(
                ("ratio", 0.5),
                ("max_downsample", 1),
                ("sx", 2),
                ("sy", 2),
                ("use_rand", True),
                ("merge_attn", True),
                ("merge_crossattn", False),
                ("merge_mlp", False),
            ),
        ),
    )

    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        levels = tuple(n for n in pipeline.transformer_downsamples if n in DOWNSAMPLES)
        return (
            Axis("ratio", RATIOS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75)),
            Axis("max_downsample", levels, levels),
            Axis("sx", STRIDES, STRIDES[:1]),
            Axis("sy", STRIDES, STRIDES[:1]),
            Axis("merge_attn", (False, True), (True,)),
            Axis("merge_crossattn", (False, True), (False,)),
            Axis("merge_mlp", (False, True), (False,)),
        )

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        levels = sorted(set(pipeline.transformer_downsamples) & set(DOWNSAMPLES))
        if not levels:
            return False, (
                f"needs a U-Net with transformer blocks; {pipeline.pipeline_class} has none that "
                "tomesd knows"
            )
        # Whatever merges more fails where this does.
        mildest = Params(RATIOS[0], levels[0], sx=STRIDES[0], sy=STRIDES[0])
        reason = _misfit(mildest, pipeline)
        return reason is None, reason or ""

    def excludes(self, own: Mapping[str, Value], pipeline: PipelineSpec) -> str | None:
        params = Params(**own)  # type: ignore[arg-type]
        if params.max_downsample not in pipeline.transformer_downsamples:
            return (
                f"no transformer block at max_downsample {params.max_downsample}; "
                f"there are some at {list(pipeline.transformer_downsamples)}"
            )
        return _misfit(params, pipeline)

    def idle(self, own: Mapping[str, Value], steps: int) -> str | None:
        if own["ratio"] <= 0:
            return f"ratio {own['ratio']} merges nothing"
        if any(own[name] for name in ("merge_attn", "merge_crossattn", "merge_mlp")):
            return None
        return "merge_attn, merge_crossattn and merge_mlp are off: nothing is merged"

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """Merged at every step; finding what to merge may cost more time than it saves.

        Of the levels one is how round the number of tokens left is, which kernels like: a ratio of
        0.5 is faster than its neighbours.
        """
        params = Params(**own)  # type: ignore[arg-type]
        tokens = math.prod(pipeline.tokens(pipeline.transformer_downsamples[0]))
        left = tokens - int(tokens * params.ratio)
        levels = (
            params.ratio,
            math.log2(params.max_downsample) / 3,
            math.log2(params.sx * params.sy) / 4,
            math.log2(math.gcd(left, 16)) / 4,
            *(float(on) for on in (params.merge_attn, params.merge_crossattn, params.merge_mlp)),
        )
        return (StepKind("merged", levels, relative_cost=1.0, spread=0.3),) * pipeline.calls

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        import tomesd

        tomesd.apply_patch(pipe, **own)
        levels = PipelineSpec.of(pipe, steps=0, guidance_scale=1).transformer_downsamples
        patched = [m for m in pipe.unet.modules() if type(m).__name__ == "ToMeBlock"]
        if not patched or min(levels) > own.get("max_downsample", 1):
            raise UnsupportedError(
                f"{self.title}: nothing to merge in this U-Net: {len(patched)} transformer blocks "
                f"that tomesd knows, at downsamplings {list(levels)}; got {dict(own)}"
            )
        _seed_each_call(pipe)
        return pipe

    def finish(
        self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts, call: Call
    ) -> Call:
        """A call that changes an image begins at a later step than the sampler's first."""
        options = pipe.unet._tome_info["args"]

        def from_the_first(*args: Any, **kwargs: Any) -> Any:
            options["generator"] = None
            return call(*args, **kwargs)

        return from_the_first

    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        told = {name: value for name, value in own.items() if DEFAULTS.get(name) is not value}
        arguments = ", ".join(f"{name}={value!r}" for name, value in told.items())
        return Emitted(
            imports=("import tomesd", "import torch"),
            enter=(
                f"tomesd.apply_patch(pipe, {arguments})",
                "# tomesd takes its random numbers from a copy of the global generator.",
                f"torch.manual_seed({MERGE_SEED})",
            ),
            leave=("tomesd.remove_patch(pipe)",),
        )


def _misfit(params: Params, pipeline: PipelineSpec) -> str | None:
    """Why tomesd fails at the size of the latents, or None.

    A block knows how many tokens it has, and of the latents their height and width. From the ratio
    of the areas tomesd takes a downsampling, whatever the level's own, and from that the rows and
    columns (``compute_merge`` in its ``patch.py``). Where the latents are narrow or odd, these are
    not the block's. What merges no token at all is never looked at.
    """
    height, width = pipeline.tokens(1)
    for level in pipeline.transformer_downsamples:
        rows, columns = pipeline.tokens(level)
        downsample = math.ceil(math.sqrt(height * width // (rows * columns)))
        if downsample > params.max_downsample or int(rows * columns * params.ratio) < 1:
            continue
        taken = math.ceil(height / downsample), math.ceil(width / downsample)
        if taken != (rows, columns):
            return (
                f"tomesd takes the {rows} by {columns} tokens at downsampling {level} of "
                f"{height} by {width} latents for {taken[0]} by {taken[1]}: the latents are too "
                "narrow, or do not divide evenly"
            )
        if params.sy > rows or params.sx > columns:
            return (
                f"sx {params.sx}, sy {params.sy} do not fit into {rows} by {columns} tokens (rows "
                f"by columns, at downsampling {level} of {height} by {width} latents)"
            )
    return None


def _seed_each_call(pipe: DiffusionPipeline) -> None:
    """Has tomesd draw the same in each call.

    tomesd copies the global generator at its first step, so that the images depend on whatever ran
    before, and goes on from there in the next call. Seeded here at the first step of each call is a
    generator of its own, which is the copy that ``torch.manual_seed`` before the call would give.
    """
    import torch

    options = pipe.unet._tome_info["args"]

    def seed(unet: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        latents, timestep = inputs[:2]
        if options["generator"] is None or timestep == pipe.scheduler.timesteps[0]:
            options["generator"] = torch.Generator(latents.device).manual_seed(MERGE_SEED)

    pipe.unet.register_forward_pre_hook(seed)


PLUGIN = ToMe()
