"""Recording the calls of a module, and replaying them. Scripts contain the class as it is."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch


class StepGraphs:
    """A module's calls as CUDA graphs: recorded when first made, then replayed.

    A graph is launched at once, where a U-Net launches a thousand kernels one by one. What a call
    does may depend on its number and on what earlier ones have stored, but not on the numbers that
    it computes with. What was recorded of other weights, layers or settings than the module has
    when its first call is made is forgotten, and recorded again.

    Usage: `record` a module, then do whatever changes it, then `replay` it; `begin` before its
    first call.
    """

    def __init__(self) -> None:
        self.graphs: dict[Any, tuple[torch.cuda.CUDAGraph, list[torch.Tensor], Any]] = {}
        self.kept: list[list[torch.Tensor]] = []
        self.layers: Any = None
        self.weights: list[torch.Tensor] = []
        self.begin()

    def begin(self) -> None:
        """The next call is the first."""
        self.number = 0
        self.pool: Any = None

    def replay(self, module: torch.nn.Module) -> None:
        """Replays what is recorded, whatever becomes of the module's ``forward`` meanwhile."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.number == 0:
                self.bind(module)
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
                self.kept.append(self.weights)
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, pool=self.pool):
                out = forward(*args, **kwargs)
            graph.replay()
            self.graphs[self.key(inputs)] = graph, static, out
            return self.replaced(out, iter([each.clone() for each in self.tensors(out)]))

        module.forward = call

    def bind(self, module: torch.nn.Module) -> None:
        """Forgets what is recorded, unless it is of just this module as it is now."""
        layers, self.weights = self.state(module)
        if layers != self.layers or not all(map(self.same, self.kept)):
            self.graphs.clear()
            self.kept.clear()
            self.layers = layers

    def state(self, module: torch.nn.Module) -> tuple[list[Any], list[torch.Tensor]]:
        """What a module consists of: its layers with their settings (a LoRA's scale), and all
        weights and buffers."""
        common, layers, weights, modules = vars(torch.nn.Module()), [], [], [module]
        for each in modules:  # which grows by the modules in each
            kind, own = type(each), vars(each)
            inside = [part for part in own["_modules"].values() if part is not None]
            parts = (*own["_parameters"].values(), *own["_buffers"].values())
            held = [part for part in parts if part is not None]
            # Of torch's own layers nobody sets anything else.
            told = {} if kind.__module__.startswith("torch.nn.") else own
            settings = {
                key: found
                for key, value in told.items()
                if key not in common and (found := self.setting(value)) is not None
            }
            layers.append((kind, len(inside), len(held), settings))
            weights += [part.data for part in held]
            modules += inside
        return layers, weights

    def setting(self, value: Any) -> Any:
        """A layer's attribute as it is now, or the kind of an object; None for what comes and goes
        with calls."""
        if isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (dict, tuple, list)):
            return repr(value)
        passing = (type(None), torch.Tensor, types.FunctionType, types.MethodType)
        return None if isinstance(value, passing) else type(value)

    def same(self, kept: list[torch.Tensor]) -> bool:
        """Whether the weights lie where graphs read them, or others of the same numbers do."""
        moved = [
            (old, new)
            for old, new in zip(kept, self.weights, strict=True)
            if old.data_ptr() != new.data_ptr() or old.stride() != new.stride()
        ]
        if any(
            (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device)
            for old, new in moved
        ):
            return False
        return not moved or not bool(torch.stack([(old != new).any() for old, new in moved]).any())

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
