"""Which layers of the U-Net run at each step, and on what: as seen, and as the candidates say.

A layer is a module without modules in it. Of its input we keep the length of the first dimension
(images, twice with guidance) and, inside transformer blocks, of the second (tokens).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch

from .generating import STEPS, Images, Parameters

Seen = dict[str, tuple[int, int | None]]
"""Layer -> batch, tokens."""
BLOCK = re.compile(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)")
IN_TRANSFORMER = ".transformer_blocks."
MERGED = {".attn1.": "merge_attn", ".attn2.to_": "merge_crossattn", ".ff.": "merge_mlp"}
TEXT = (".attn2.to_k", ".attn2.to_v")


def trace(pipe: Any, run: Callable[[], Images]) -> tuple[Images, list[Seen]]:
    """The images that ``run`` generates, and what runs at each of its calls of the U-Net."""
    steps: list[Seen] = []

    def seeing(name: str) -> Callable[..., None]:
        def see(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            tokens = inputs[0].shape[1] if IN_TRANSFORMER in name else None
            steps[-1][name] = (inputs[0].shape[0], tokens)

        return see

    leaves = [(n, m) for n, m in pipe.unet.named_modules() if not list(m.children())]
    handles = [module.register_forward_pre_hook(seeing(name)) for name, module in leaves]
    handles.append(pipe.unet.register_forward_pre_hook(lambda *_: steps.append({})))
    images = run()
    for handle in handles:
        handle.remove()
    return images, steps


def expected(pipe: Any, plain: Seen, parameters: Parameters) -> list[Seen]:
    """The same, worked out from a step of the baseline pipeline and the parameters' meaning."""
    return [
        {
            name: (_batch(batch, step, parameters), _tokens(pipe, name, tokens, parameters))
            for name, (batch, tokens) in plain.items()
            if _runs(pipe, name, step, parameters)
        }
        for step in range(STEPS)
    ]


def _gate(parameters: Parameters) -> float:
    return float(parameters["tgate"]["gate_step"]) if "tgate" in parameters else math.inf


def _batch(guided: int, step: int, parameters: Parameters) -> int:
    return guided if step < _gate(parameters) else guided // 2


def _runs(pipe: Any, name: str, step: int, parameters: Parameters) -> bool:
    return not (_in_cache(pipe, name, step, parameters) or _reused(name, step, parameters))


def _in_cache(pipe: Any, name: str, step: int, parameters: Parameters) -> bool:
    """Whether DeepCache leaves a layer out. T-Gate empties the cache before its gate and at it."""
    if "deepcache" not in parameters:
        return False
    gate, cached = _gate(parameters), parameters["deepcache"]
    started = max(start for start in (0, gate - 1, gate) if start <= step)
    if (step - started) % cached["cache_interval"] == 0:
        return False
    branch = divmod(cached["cache_branch_id"], 3)
    if (found := BLOCK.match(name)) is None:
        return name.startswith("mid_block")
    way, block, kind, layer = found[1], int(found[2]), found[3], int(found[4])
    if way == "down":
        layers = len(pipe.unet.down_blocks[block].resnets)
        return (block, layers if kind == "downsamplers" else layer) >= branch
    layers = len(pipe.unet.up_blocks[block].resnets)
    block = len(pipe.unet.up_blocks) - 1 - block
    return (block, 0 if kind == "upsamplers" else layers - 1 - layer) > branch


def _reused(name: str, step: int, parameters: Parameters) -> bool:
    """Whether T-Gate leaves an attention layer out."""
    if "tgate" not in parameters:
        return False
    gate, own = _gate(parameters), parameters["tgate"]
    if ".attn2." in name:
        return step >= gate
    if ".attn1." not in name:
        return False
    if step >= gate:
        return bool(step % own["fi_interval"])
    return own["warm_up"] < step < gate - 1 and bool(step % own["sp_interval"])


def _tokens(pipe: Any, name: str, tokens: int | None, parameters: Parameters) -> int | None:
    """How many tokens ToMe leaves to a layer."""
    part = next((flag for place, flag in MERGED.items() if place in name), None)
    merging = parameters.get("tome", {})
    if tokens is None or part is None or name.endswith(TEXT) or not merging.get(part):
        return tokens
    size = pipe.unet.config.sample_size
    side = math.isqrt(tokens)
    if size // side > merging["max_downsample"]:
        return tokens
    stay = (side // merging["sx"]) * (side // merging["sy"])
    return tokens - min(int(tokens * merging["ratio"]), tokens - stay)
