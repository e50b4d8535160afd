"""What all stages of the training share: how much to train, the scenes, and the optimiser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from diffaccel.plugins.models.mini.models import (
    encode_captions,
)
from diffaccel.plugins.models.mini.scenes import (
    Scene,
    draw_scenes,
    sample_scenes,
)


@dataclass(frozen=True)
class TrainingOptions:
    """How much to train; batches and steps of each stage."""

    scenes: int = 400_000
    pictures: int = 65_536
    vae_steps: int = 10_000
    vae_batch: int = 96
    scorer_steps: int = 3000
    scorer_batch: int = 384
    unet_steps: int = 20_000
    unet_batch: int = 1024
    unet_rate: float = 8e-4
    ema: float = 0.999
    report_every: int = 1000
    report_captions: int = 64
    compile: bool = False
    seed: int = 0


TOY = TrainingOptions(
    scenes=32,
    pictures=32,
    vae_steps=2,
    vae_batch=4,
    scorer_steps=2,
    scorer_batch=4,
    unet_steps=2,
    unet_batch=4,
    report_every=2,
    report_captions=2,
)


@dataclass(frozen=True)
class Data:
    """Training scenes on the training device.

    Attributes:
        scenes: N scenes of the training split.
        tokens: (N, 32) int64 captions.
        pictures: (M, 3, 128, 128) uint8, the first M scenes drawn.
    """

    scenes: list[Scene]
    tokens: Tensor
    pictures: Tensor


def log(message: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


def trapezoid(step: int, steps: int, warmup: int = 200, fall: float = 0.35) -> float:
    """Share of the full learning rate: a short rise, a plateau, a linear fall at the end."""
    rise = (step + 1) / min(warmup, steps)
    return max(0.0, min(1.0, rise, (steps - step) / (fall * steps)))


class Optimiser:
    """AdamW whose rate lives on the device, so that a captured graph sees it change."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, decay: float = 0.01):
        self.parameters = list(parameters)
        cuda = self.parameters[0].is_cuda
        self.full = rate
        self.rate = torch.tensor(rate, device=self.parameters[0].device) if cuda else rate
        self.inner = torch.optim.AdamW(
            self.parameters, lr=self.rate, weight_decay=decay, fused=cuda, capturable=cuda
        )

    def set_share(self, share: float) -> None:
        if isinstance(self.rate, Tensor):
            self.rate.fill_(self.full * share)
        else:
            self.inner.param_groups[0]["lr"] = self.full * share

    def update(self, loss: Tensor) -> Tensor:
        """Step down the gradient of `loss`; returns it detached."""
        self.inner.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.inner.step()
        return loss.detach()


def captured(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """On a GPU, record one training step as a CUDA graph: nets this small are launch-bound.

    The first calls, before the recording, are ordinary steps.
    """
    if device.type != "cuda":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    # The graph knows addresses only: what `step` holds must live as long as the replays.
    replay.keeps = step  # type: ignore[attr-defined]
    return replay


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 arithmetic on a GPU; no weight cache, which a captured graph would outlive."""
    enabled = device.type == "cuda"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 pictures as float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def prepare_data(options: TrainingOptions, tokenizer: CLIPTokenizer, device: torch.device) -> Data:
    """Draw the training scenes."""
    scenes = sample_scenes(options.scenes, options.seed, held_out=False)
    tokens = encode_captions(tokenizer, [scene.caption for scene in scenes])
    pictures = draw_scenes(scenes[: options.pictures], options.seed, device)
    return Data(scenes, tokens.to(device), pictures)
