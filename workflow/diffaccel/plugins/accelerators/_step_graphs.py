"""Recording the calls of a module, and replaying them. Scripts contain the class as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


class StepGraphs:
    """A module's calls as CUDA graphs: recorded when first made, then replayed.

    A graph is launched at once, where a U-Net launches a thousand kernels one by one. What a call
    does may depend on its number and on what earlier ones have stored, but not on the numbers that
    it computes with.

    Usage: `record` a module, then do whatever changes it, then `replay` it; `begin` before its
    first call.
    """

    def __init__(self) -> None:
        self.graphs: dict[Any, tuple[torch.cuda.CUDAGraph, list[torch.Tensor], Any]] = {}
        self.kept: list[Any] = []
        self.begin()

    def begin(self) -> None:
        """The next call is the first."""
        self.number = 0
        self.pool: Any = None

    def replay(self, module: torch.nn.Module) -> None:
        """Replays what is recorded, whatever becomes of the module's ``forward`` meanwhile."""

        def call(*args: Any, **kwargs: Any) -> Any:
            inputs = self.tensors(args, kwargs)
            key = self.key(inputs)
            if key in self.graphs:
                graph, static, out = self.graphs[key]
                for mine, given in zip(static, inputs, strict=True):
                    mine.copy_(given, non_blocking=True)
                graph.replay()
                out = self.replaced(out, iter([each.clone() for each in self.tensors(out)]))
            else:
                out = module._call_impl(*args, **kwargs)
            self.number += 1
            return out

        # Where torch looks first when a module is called: for a compiled module, as a rule.
        module._compiled_call_impl = call

    def record(self, module: torch.nn.Module) -> None:
        """Records the module's ``forward`` whenever it runs."""
        forward = module.forward

        def call(*args: Any, **kwargs: Any) -> Any:
            forward(*args, **kwargs)  # compiles and chooses kernels, which cannot be recorded
            inputs = self.tensors(args, kwargs)
            static = [each.detach().clone().cuda() for each in inputs]
            args, kwargs = self.replaced((args, kwargs), iter(static))
            if self.pool is None:
                # What later calls read of earlier ones is alive while they are recorded, not after.
                self.pool = torch.cuda.graph_pool_handle()
                self.kept.append([weight.data for weight in module.parameters()])
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, pool=self.pool):
                out = forward(*args, **kwargs)
            graph.replay()
            self.graphs[self.key(inputs)] = graph, static, out
            return self.replaced(out, iter([each.clone() for each in self.tensors(out)]))

        module.forward = call

    def key(self, inputs: list[torch.Tensor]) -> Any:
        return self.number, tuple((each.shape, each.dtype) for each in inputs)

    def tensors(self, *values: Any) -> list[torch.Tensor]:
        """All tensors in nested values, in order."""
        found: list[torch.Tensor] = []
        for value in values:
            if isinstance(value, torch.Tensor):
                found.append(value)
            elif isinstance(value, (tuple, list)):
                found += self.tensors(*value)
            elif isinstance(value, dict):
                found += self.tensors(*value.values())
        return found

    def replaced(self, value: Any, queue: Iterator[torch.Tensor]) -> Any:
        """Nested values with their tensors replaced by the next ones of a queue."""
        if isinstance(value, torch.Tensor):
            return next(queue)
        if isinstance(value, (tuple, list)):
            return type(value)(self.replaced(each, queue) for each in value)
        if isinstance(value, dict):
            return {name: self.replaced(each, queue) for name, each in value.items()}
        return value
