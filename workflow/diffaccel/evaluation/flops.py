"""How much a pipeline computes, and how much its device could."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diffaccel.evaluation.calls import Bench, timed
from diffaccel.evaluation.records import Ceiling

_SIZES = {"cuda": (4096, 8192, 16384), "cpu": (256, 512)}
"""Square matrices that the ceiling is looked for with, by kind of device."""
_PRODUCTS = 20
_REPEATS = 5
_FEW_STEPS = 2

Shape = tuple[int, int, int, int]


def flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of a call: matrix products, convolutions and attention; a
    multiplication and an addition are two.

    Source: torch.utils.flop_counter, which knows all but the CPU's fused attention.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={fused: _attention_flops}) as counter:
        call()
    return int(counter.get_total_flops())


def _attention_flops(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Of softmax(query key) value; shapes are (batch, heads, tokens, channels)."""
    batch, heads, tokens, channels = query
    return 2 * batch * heads * tokens * key[2] * (channels + value[3])


def call_flops(bench: Bench) -> int:
    """Floating-point operations of one call of the baseline pipeline: the text encoders, every step
    with its guidance, and the VAE decoder. Every step does the same, so that two short calls tell
    what a long one does."""
    few, more = (_counted(bench, steps) for steps in (_FEW_STEPS, _FEW_STEPS + 1))
    return few + (bench.configuration.steps - _FEW_STEPS) * (more - few)


def _counted(bench: Bench, steps: int) -> int:
    short = replace(bench, configuration=replace(bench.configuration, steps=steps))
    return flops(lambda: short.call(short.baseline, short.batches()[0]))


def matmul_ceiling(device: str, dtype: str) -> Ceiling:
    """The fastest of a few large products of square matrices.

    Args:
        device: torch's name of it.
        dtype: torch's name of it.
    """
    sizes = _SIZES["cpu" if device == "cpu" else "cuda"]
    found = [Ceiling(_product_tflops(size, device, dtype), size, dtype) for size in sizes]
    return max(found, key=lambda ceiling: ceiling.tflops)


def _product_tflops(size: int, device: str, dtype: str) -> float:
    import torch

    generator = torch.Generator(device).manual_seed(0)
    kind = {"device": device, "dtype": getattr(torch, dtype)}
    first, second = (torch.randn(size, size, generator=generator, **kind) for _ in range(2))
    out = torch.empty(size, size, **kind)

    def products() -> None:
        for _ in range(_PRODUCTS):
            torch.mm(first, second, out=out)

    products()
    seconds = min(timed(products, device)[1] for _ in range(_REPEATS))
    return _PRODUCTS * 2 * math.pow(size, 3) / seconds / 1e12
