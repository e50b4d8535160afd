"""DeepCache: the deep part of the U-Net is computed at every n-th step and reused between.

Xinyin Ma, Gongfan Fang, Xinchao Wang, "DeepCache: Accelerating Diffusion Models for Free",
CVPR 2024, arXiv:2312.00858; applied through its own package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
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
    from diffusers import DiffusionPipeline

LAYERS_A_BLOCK = 3
"""The package reads a branch id as block ``id // 3``, layer ``id % 3``."""
LONGEST_INTERVAL = 10


@dataclass(frozen=True)
class Params:
    """DeepCacheSDHelper's parameters.

    Args:
        cache_interval: the whole U-Net runs at every ``cache_interval``-th step.
        cache_branch_id: where the other steps turn round: the outermost branch, 0, leaves out all
            but the last layer of the last up block; higher ids leave out less.
    """

    cache_interval: int
    cache_branch_id: int

    def __post_init__(self) -> None:
        if self.cache_interval < 2:
            raise ValueError(f"cache_interval must be 2 or more, got {self.cache_interval!r}")
        if self.cache_branch_id < 0:
            raise ValueError(f"cache_branch_id must be 0 or more, got {self.cache_branch_id!r}")


def branch_ids(block_layers: tuple[int, ...]) -> tuple[int, ...]:
    """Branch ids that name a layer of the U-Net, ascending.

    Ids beyond them leave out the middle block alone, whichever they are.
    """
    return tuple(
        LAYERS_A_BLOCK * block + layer
        for block, layers in enumerate(block_layers)
        for layer in range(min(layers, LAYERS_A_BLOCK))
    )


class DeepCache(Accelerator):
    name: ClassVar[str] = "deepcache"
    title: ClassVar[str] = "DeepCache"
    package: ClassVar[str] = "DeepCache"
    source: ClassVar[str] = "https://arxiv.org/abs/2312.00858"
    order: ClassVar[int] = 10
    Params: ClassVar[type] = Params
    ways: ClassVar[tuple[Way, ...]] = (
        Way(
            calls=(
                "DeepCache.DeepCacheSDHelper",
                "DeepCache.DeepCacheSDHelper.set_params",
                "DeepCache.DeepCacheSDHelper.enable",
            ),
            undone=("DeepCache.DeepCacheSDHelper.disable",),
            told_by="DeepCache.DeepCacheSDHelper.set_params",
            takes=(("cache_interval", 1), ("cache_branch_id", 0)),
        ),
        *(
            Way(
                calls=(loader,),
                undone=("pipe.deepcache.disable",),
                told_by=loader,
                takes=(("cache_interval", 3), ("cache_branch_id", 0)),
            )
            for loader in ("tgate.TgateSDDeepCacheLoader", "tgate.TgateSDXLDeepCacheLoader")
        ),
    )

    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        intervals = tuple(range(2, min(LONGEST_INTERVAL, pipeline.steps_run) + 1))
        ids = branch_ids(pipeline.block_layers)[::-1]
        outermost = tuple(i for i in ids if i < LAYERS_A_BLOCK or i % LAYERS_A_BLOCK == 0)
        return (
            Axis("cache_interval", intervals, tuple(n for n in intervals if n not in (7, 9))),
            Axis("cache_branch_id", ids, outermost),
        )

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        if not pipeline.block_layers:
            return (
                False,
                f"needs a U-Net with down and up blocks; {pipeline.pipeline_class} has none",
            )
        if not pipeline.middle_block:
            return False, "needs a U-Net with a middle block, which it wraps; this one has none"
        if pipeline.steps_run < 2:
            return False, f"needs 2 steps or more, one to fill its cache; got {pipeline.steps_run}"
        return True, ""

    def excludes(self, own: Mapping[str, Value], pipeline: PipelineSpec) -> str | None:
        params = Params(**own)  # type: ignore[arg-type]
        if params.cache_interval > pipeline.steps_run:
            return (
                f"cache_interval {params.cache_interval} is no other than {pipeline.steps_run}, "
                "the steps"
            )
        return _missing_branch(params.cache_branch_id, pipeline.block_layers)

    def idle(self, own: Mapping[str, Value], steps: int) -> str | None:
        interval = own["cache_interval"]
        if interval > 1:
            return None
        return f"cache_interval {interval} has every step run in full: changes nothing"

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """Between the steps that run in full, cached ones; the level is how deep they go, 0 to 1.

        The package's helper counts from the call at which it was enabled. T-Gate's loaders enable
        it again at the step before the gate and at the gate, so that both run in full. It finds a
        call by its time, so that what it does at a time that comes again is what it did at the
        first call of that time.
        """
        params, ids = Params(**own), branch_ids(pipeline.block_layers)  # type: ignore[arg-type]
        depth = ids.index(params.cache_branch_id) / max(1, len(ids) - 1)
        # Most of the time goes to the outer layers, which see the most pixels; but to the inner
        # ones where the outer have no transformer blocks.
        dear = 1 in pipeline.transformer_downsamples
        cost = 0.13 + 0.82 * depth**0.6 if dear else 0.06 + 0.9 * depth**2
        cached = StepKind(
            "cached", (5 * depth,), relative_cost=pipeline.relative_cost(cost), spread=0.45
        )
        calls, place = pipeline.calls, pipeline.first_at_time
        # T-Gate counts from the call after those that its scheduler makes on top.
        gate = (
            int(others["tgate"]["gate_step"]) + pipeline.extra if "tgate" in others else calls + 1
        )
        starts = [0, *(call for call in (gate - 1, gate) if 0 < call < calls), calls]
        return tuple(
            cached if (place[call] - place[start]) % params.cache_interval else None
            for start, end in pairwise(starts)
            for call in range(start, end)
        )

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        from DeepCache import DeepCacheSDHelper

        pipeline = PipelineSpec.of(pipe, steps=0, guidance_scale=1)
        if reason := _missing_branch(int(own["cache_branch_id"]), pipeline.block_layers):
            raise UnsupportedError(f"{self.title}: {reason}")
        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(**own)
        helper.enable()
        pipe.deepcache = helper
        return pipe

    def finish(
        self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts, call: Call
    ) -> Call:
        """The helper keeps the step at which its first call began, and counts from it in all
        others. With another strength a call begins at another step: what is cached then is of the
        call before, whose image was another."""
        helper = pipe.deepcache

        def from_the_first(*args: Any, **kwargs: Any) -> Any:
            helper.start_timestep = None
            return call(*args, **kwargs)

        return from_the_first

    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        arguments = ", ".join(f"{name}={value!r}" for name, value in own.items())
        return Emitted(
            imports=("from DeepCache import DeepCacheSDHelper",),
            enter=(
                "helper = DeepCacheSDHelper(pipe=pipe)",
                f"helper.set_params({arguments})",
                "helper.enable()",
            ),
            leave=("helper.disable()",),
        )


def _missing_branch(branch: int, block_layers: tuple[int, ...]) -> str | None:
    ids = branch_ids(block_layers)
    if branch in ids:
        return None
    return f"cache_branch_id {branch} names no layer of this U-Net; it has {list(ids)}"


PLUGIN = DeepCache()
