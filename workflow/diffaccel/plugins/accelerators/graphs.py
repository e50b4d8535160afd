"""CUDA graphs: the kernels of a step are launched at once, at no loss.

Alan Gray, "Getting Started with CUDA Graphs", NVIDIA, 2019; applied through ``torch.cuda.graph``.

What the U-Net computes stays the same in every bit; the time is saved in which Python and the
driver launch kernels one by one. That is most of a call where the network or the batch is small,
and where a cache has left little to compute.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

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
from diffaccel.store.jsonio import digest

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

    from diffaccel.plugins.accelerators._step_graphs import StepGraphs

KEPT = 8
"""Candidates of a pipeline whose graphs are kept: as many as are timed side by side."""
ELSEWHERE = "CUDA graphs need a CUDA device"
REPLACED = (
    "a part of the pipeline was replaced after they were put on it, and the new one has nothing on "
    "it. Take them off first, replace it, and put them on again"
)


@dataclass(frozen=True)
class Params:
    """What is recorded beside the U-Net's steps.

    Args:
        decoder: the autoencoder's decoder, too.
    """

    decoder: bool


class Graphs(Accelerator):
    name: ClassVar[str] = "graphs"
    title: ClassVar[str] = "CUDA graphs"
    package: ClassVar[str] = "torch"
    source: ClassVar[str] = "https://developer.nvidia.com/blog/cuda-graphs/"
    order: ClassVar[int] = 8
    Params: ClassVar[type] = Params
    ways: ClassVar[tuple[Way, ...]] = (
        Way(calls=("torch.cuda.CUDAGraph",)),
        Way(calls=("torch.cuda.make_graphed_callables",)),
    )
    writes: ClassVar[tuple[str, ...]] = ("graphs=", "del forward", "del _compiled_call_impl")

    def __init__(self) -> None:
        # Recording takes as long as several calls; a candidate that is put on again has it done.
        self._recorded: WeakKeyDictionary[nn.Module, OrderedDict[str, list[StepGraphs]]]
        self._recorded = WeakKeyDictionary()

    def axes(self, pipeline: PipelineSpec) -> tuple[Axis, ...]:
        return (Axis("decoder", (False, True), (False, True)),)

    def supports(self, pipeline: PipelineSpec) -> tuple[bool, str]:
        if not pipeline.block_layers:
            return False, f"needs a U-Net; {pipeline.pipeline_class} has none"
        if pipeline.device != "cuda":
            return False, f"{ELSEWHERE}; this is {pipeline.device}"
        return True, ""

    def conflicts(self, others: Sequence[str]) -> str | None:
        if "tome" in others:
            return "ToMe draws random numbers at each step, and replayed steps would draw no others"
        return None

    def step_kinds(
        self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec
    ) -> tuple[StepKind | None, ...]:
        """The same at every step; nearly the same whether or not the decoder is recorded, too."""
        cost = pipeline.relative_cost(0.8)
        return (
            StepKind("recorded", (own["decoder"] / 4,), relative_cost=cost, spread=0.4),
        ) * pipeline.calls

    def apply(self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts) -> Call:
        if pipe.device.type != "cuda":
            raise UnsupportedError(f"{self.title}: {ELSEWHERE}; this is {pipe.device}")
        for module, graphs in self._graphs(pipe, own, others):
            graphs.record(module)
        return pipe

    def finish(
        self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts, call: Call
    ) -> Call:
        found = self._graphs(pipe, own, others)
        for module, graphs in found:
            graphs.replay(module)

        def from_the_first(*args: Any, **kwargs: Any) -> Any:
            if self._modules(pipe, own) != [module for module, _ in found]:
                raise UnsupportedError(f"{self.title}: {REPLACED}")
            for _, graphs in found:
                graphs.begin()
            return call(*args, **kwargs)

        return from_the_first

    def _modules(self, pipe: DiffusionPipeline, own: Mapping[str, Value]) -> list[nn.Module]:
        return [pipe.unet, *([pipe.vae.decoder] if own["decoder"] else [])]

    def _graphs(
        self, pipe: DiffusionPipeline, own: Mapping[str, Value], others: Parts
    ) -> list[tuple[nn.Module, StepGraphs]]:
        """The modules, each with its graphs of this candidate, recorded or not."""
        from diffaccel.plugins.accelerators._step_graphs import StepGraphs

        modules = self._modules(pipe, own)
        known = self._recorded.setdefault(pipe.unet, OrderedDict())
        key = digest(
            [
                type(pipe.scheduler).__name__,
                repr(dict(pipe.scheduler.config)),
                dict(own),
                {k: dict(v) for k, v in others.items()},
            ]
        )
        if key not in known:
            known[key] = [StepGraphs() for _ in modules]
            while len(known) > KEPT:
                known.popitem(last=False)
        known.move_to_end(key)
        return list(zip(modules, known[key], strict=True))

    def definitions(self) -> tuple[str, ...]:
        from diffaccel.plugins.accelerators._step_graphs import StepGraphs

        return (inspect.getsource(StepGraphs),)

    def emit(self, own: Mapping[str, Value], others: Parts, pipeline: PipelineSpec) -> Emitted:
        modules = "pipe.unet, pipe.vae.decoder" if own["decoder"] else "pipe.unet"
        return Emitted(
            imports=(
                "import torch",
                "import types",
                "from typing import Any",
                "from collections.abc import Iterator",
            ),
            definitions=self.definitions(),
            enter=(
                f"recorded = [{modules}]  # once, and replayed from then on",
                'if not hasattr(pipe, "graphs") or [each for each, _ in pipe.graphs] != recorded:',
                "    pipe.graphs = [(module, StepGraphs()) for module in recorded]",
                "for module, graphs in pipe.graphs:",
                "    graphs.begin()",
                "    graphs.record(module)",
            ),
            last=("for module, graphs in pipe.graphs:", "    graphs.replay(module)"),
            leave=(
                "for module, _ in pipe.graphs:",
                '    vars(module).pop("forward", None)',
                '    vars(module).pop("_compiled_call_impl", None)',
            ),
        )


PLUGIN = Graphs()
