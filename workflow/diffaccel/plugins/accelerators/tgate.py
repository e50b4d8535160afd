"""T-Gate: attention that has converged is reused, and guidance ends at a gate.

Haozhe Liu, Wentian Zhang and others, "Faster Diffusion via Temporal Attention Decomposition",
arXiv:2404.02747; applied through its own package, tgate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from diffaccel.plugins.pipeline_tasks import task_of
from diffaccel.plugins.space import Axis, Value

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

LOADERS = {"StableDiffusionPipeline": "TgateSD", "StableDiffusionXLPipeline": "TgateSDXL"}
"""The package has a loader for each pipeline class: ...Loader, or ...DeepCacheLoader."""
LONGEST_INTERVAL = 10


@dataclass(frozen=True)
class Params:
    """What ``pipe.tgate`` takes on top of a pipeline call; steps are counted from 0.

    Args:
        gate_step: from this step on, cross-attention is reused and guidance is left out, which
            halves the batch; the number of steps means never.
        sp_interval: before the gate, self-attention is computed at every ``sp_interval``-th step.
        fi_interval: the same after the gate.
        warm_up: before this step, ``sp_interval`` does not count.
    """

    gate_step: int
    sp_interval: int
    fi_interval: int
    warm_up: int

    def __post_init__(self) -> None:
        for name in ("gate_step", "sp_interval", "fi_interval"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be 1 or more, got {value!r}")
        if self.warm_up < 0:
            raise ValueError(f"warm_up must be 0 or more, got {self.warm_up!r}")

    def sp_reuses(self) -> tuple[int, ...]:
        """Steps before the gate that reuse self-attention; the step before it never does."""
        early = range(self.warm_up + 1, self.gate_step - 1)
        return tuple(step for step in early if step % self.sp_interval)

    def fi_reuses(self, steps: int) -> tuple[int, ...]:
        """Steps from the gate on that reuse self-attention."""
        return tuple(step for step in range(self.gate_step, steps) if step % self.fi_interval)

    def reuses(self, steps: int) -> tuple[int, ...]:
        """All steps that reuse self-attention."""
        return self.sp_reuses() + self.fi_reuses(steps)


class TGate(Accelerator):
    name: ClassVar[str] = "tgate"
    title: ClassVar[str] = "T-Gate"
    package: ClassVar[str] = "tgate"
    source: ClassVar[str] = "https://arxiv.org/abs/2404.02747"
    order: ClassVar[int] = 20
    Params: ClassVar[type] = Params
    ways: ClassVar[tuple[Way, ...]] = tuple(
        Way(
            calls=(f"tgate.{prefix}{suffix}",),
            through="tgate",
            told_by="pipe.tgate",
            takes=(("gate_step", 10), ("sp_interval", 5), ("fi_interval", 1), ("warm_up", 2)),
        )
        for prefix in LOADERS.values()
        for suffix in ("Loader", "DeepCacheLoader")
    )
    joins: ClassVar[tuple[str, ...]] = ("deepcache",)
    writes: ClassVar[tuple[str, ...]] = ("del tgate", "del deepcache", "del forward", "del cache")

    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        steps = pipeline.steps
        gates = tuple(range(steps, 0, -1))
        shares = (1.0, 0.75, 0.5, 0.4, 0.3, 0.2, 0.1)
        intervals = tuple(range(1, min(LONGEST_INTERVAL, max(1, steps // 2)) + 1))
        warm_ups = (*intervals[::-1], 0)
        return (
            Axis(
                "gate_step", gates, tuple(dict.fromkeys(max(1, round(steps * s)) for s in shares))
            ),
            Axis("sp_interval", intervals, tuple(n for n in (1, 3, 5) if n in intervals)),
            Axis("fi_interval", intervals, tuple(n for n in (1, 3) if n in intervals)),
            Axis("warm_up", warm_ups, tuple(n for n in (2, 0) if n in warm_ups)),
        )

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        if pipeline.pipeline_class not in LOADERS:
            return False, _unloadable(pipeline.pipeline_class)
        if not pipeline.guided:
            return False, UNGUIDED
        if pipeline.steps < 2:
            return False, f"needs 2 steps or more, one before the gate; got {pipeline.steps}"
        if pipeline.order > 1:
            return False, SEVERAL_CALLS.format(pipeline.order)
        return True, ""

    def forbids(self, own: Mapping[str, Value], others: Parts) -> str | None:
        params = Params(**own)  # type: ignore[arg-type]
        cached, merged = others.get("deepcache"), others.get("tome")
        if cached is not None and params.sp_reuses() and params.warm_up % cached["cache_interval"]:
            # Attention that is left out at step warm_up would reuse what an earlier call stored.
            return (
                f"with cache_interval {cached['cache_interval']}, warm_up must be a multiple of it "
                f"(got {params.warm_up}): step warm_up stores self-attention for sp_interval, and "
                "the cache may not leave it out"
            )
        if merged is None:
            return None
        # What is stored has the order of that step's merged tokens; the next step merges others.
        if merged.get("merge_attn", True) and (params.sp_reuses() or params.fi_interval > 1):
            return (
                "self-attention over merged tokens cannot be reused at a step that merges others: "
                f"sp_interval and fi_interval must be 1 (got {params.sp_interval}, "
                f"{params.fi_interval}), or merge_attn off"
            )
        if merged.get("merge_crossattn", False):
            return (
                "cross-attention over merged tokens cannot be reused after the gate, at steps that "
                "merge others: merge_crossattn must be off"
            )
        return None

    def excludes(self, own: Mapping[str, Value], pipeline: PipelineSpec) -> str | None:
        params, steps = Params(**own), pipeline.steps  # type: ignore[arg-type]
        if params.gate_step > steps:
            return f"gate_step {params.gate_step} is above the {steps} steps; {steps} means no gate"
        reuses = params.reuses(steps)
        if reason := self.idle(own, steps):
            return reason
        for name, least in (("sp_interval", 1), ("fi_interval", 1), ("warm_up", 0)):
            for value in range(least, getattr(params, name)):
                if replace(params, **{name: value}).reuses(steps) == reuses:
                    return f"{name} {getattr(params, name)} does the same as {value}"
        return None

    def idle(self, own: Mapping[str, Value], steps: int) -> str | None:
        params = Params(**own)  # type: ignore[arg-type]
        early = [step for step in params.sp_reuses() if step < steps]
        if params.gate_step < steps or early:
            return None
        return (
            f"gate_step {params.gate_step} and nothing to reuse: changes nothing in {steps} steps"
        )

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """From the gate on gated; on both sides of it with self-attention reused or not."""
        params = Params(**own)  # type: ignore[arg-type]
        reuses = set(params.reuses(pipeline.steps))
        plain = (None, StepKind("reused", relative_cost=0.85, spread=0.25))
        # Half the batch: half of the time where the device computes, all of it where it waits.
        gated = [
            StepKind("gated", (float(on),), relative_cost=0.6 - 0.1 * on, spread=0.35)
            for on in (0, 1)
        ]
        # Calls that the scheduler makes on top come first, and are no steps to the package.
        steps = range(-pipeline.extra, pipeline.steps)
        return tuple(
            (gated if step >= params.gate_step else plain)[step in reuses] for step in steps
        )

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        import tgate

        from diffaccel.plugins.accelerators._attention import other_processors

        if found := other_processors(pipe.unet):
            raise UnsupportedError(
                f"{self.title}: the package computes attention itself, and would leave out what "
                f"{', '.join(found)} of this U-Net adds (an IP-Adapter?). Unload that first, or "
                "use a recipe without T-Gate"
            )
        if not PipelineSpec.of(pipe, steps=0, guidance_scale=2).guided:
            raise UnsupportedError(
                f"{self.title}: {UNGUIDED}; this U-Net is distilled to do without"
            )
        getattr(tgate, _loader(type(pipe).__name__, others))(pipe, **others.get("deepcache", {}))

        def call(*args: Any, **kwargs: Any) -> Any:
            scale = kwargs.get("guidance_scale")
            if scale is not None and scale <= 1:
                raise UnsupportedError(f"{self.title}: {UNGUIDED} (guidance_scale {scale!r})")
            return pipe.tgate(*args, **own, **kwargs)

        return call

    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        loader = _loader(pipeline.pipeline_class, others)
        cache = others.get("deepcache", {})
        arguments = "".join(f", {name}={value!r}" for name, value in cache.items())
        helper = ("pipe.deepcache.disable()", "del pipe.deepcache") if cache else ()
        return Emitted(
            imports=(
                "from diffusers.models.attention_processor import Attention",
                f"from tgate import {loader}",
            ),
            enter=(f"{loader}(pipe{arguments})",),
            leave=(
                *helper,
                "del pipe.tgate",
                "for module in pipe.unet.modules():",
                "    if isinstance(module, Attention):  # tgate leaves its own forward, and caches",
                '        vars(module).pop("forward", None)',
                '        vars(module).pop("cache", None)',
            ),
            call="pipe.tgate",
            arguments=tuple((name, repr(value)) for name, value in own.items()),
        )


UNGUIDED = (
    "needs classifier-free guidance (guidance_scale above 1): it averages the two halves of the "
    "batch, which without guidance are different images"
)


SEVERAL_CALLS = (
    "goes with samplers that call the U-Net once a step; this one calls it {} times. The package "
    "stops guidance at the first call of the gate step, but reuses attention only from the last. "
    "Between them it would average the attention of different images"
)


def _unloadable(pipeline_class: str) -> str:
    if task_of(pipeline_class) is not None:
        return (
            "the package replaces a pipeline's call by a loop of its own, and has such loops for "
            "text-to-image pipelines, which take no image"
        )
    return f"the package has no loader for {pipeline_class}; known: {', '.join(LOADERS)}"


def _loader(pipeline_class: str, others: Parts) -> str:
    if pipeline_class not in LOADERS:
        raise UnsupportedError(f"T-Gate: {_unloadable(pipeline_class)}")
    return f"{LOADERS[pipeline_class]}{'DeepCache' if 'deepcache' in others else ''}Loader"


PLUGIN = TGate()
