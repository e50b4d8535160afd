"""Training the U-Net and the text encoders of a mini family together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from diffaccel.plugins.models.mini.models import (
    Family,
    Pipeline,
    build_pipeline,
    build_scheduler,
    build_text_encoders,
    build_unet,
    embed,
    encode_captions,
    save_pipeline,
)
from diffaccel.plugins.models.mini.prompts import prompt_sets
from diffaccel.plugins.models.mini.quality import generate
from diffaccel.plugins.models.mini.reading import judge, read_scenes
from diffaccel.plugins.models.mini.scenes import (
    IMAGE_SIZE,
    parse_caption,
)
from diffaccel.plugins.models.mini.training import (
    Data,
    Optimiser,
    TrainingOptions,
    captured,
    half_precision,
    log,
    trapezoid,
)


def loss_weights(alphas: Tensor, prediction_type: str, limit: float = 5.0) -> Tensor:
    """Min-SNR weights of the squared error at each timestep (Hang et al., arXiv:2303.09556)."""
    ratio = alphas / (1 - alphas)
    clipped = ratio.clamp(max=limit)
    return clipped / (ratio + 1 if prediction_type == "v_prediction" else ratio)


@dataclass
class Denoiser:
    """The jointly trained networks, the running mean of their weights, and steps done."""

    unet: UNet2DConditionModel
    text_encoders: nn.ModuleList
    means: list[Tensor]
    steps: int = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.unet.parameters(), *self.text_encoders.parameters()]

    def state(self) -> dict[str, object]:
        """What a later run needs to go on; the optimiser warms up anew."""
        live = [p.detach().cpu() for p in self.parameters]
        return {"steps": self.steps, "live": live, "means": [m.cpu() for m in self.means]}

    @torch.no_grad()
    def load(self, state: dict[str, object]) -> None:
        self.steps = int(state["steps"])  # type: ignore[call-overload]
        for target, name in ((self.parameters, "live"), (self.means, "means")):
            for mine, stored in zip(target, state[name], strict=True):  # type: ignore[call-overload]
                mine.copy_(stored)

    @torch.no_grad()
    def averaged(self, family: Family, tokenizer: CLIPTokenizer) -> Denoiser:
        """A copy whose networks hold the mean weights."""
        device = self.means[0].device
        texts = build_text_encoders(family, tokenizer).to(device).eval()
        copy = Denoiser(build_unet(family).to(device).eval(), texts, self.means, self.steps)
        for mine, mean in zip(copy.parameters, self.means, strict=True):
            mine.copy_(mean)
        return copy


def conditions(
    family: Family, encoders: nn.ModuleList, tokens: Tensor, dropped: Tensor, empty: Tensor
) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Words and added conditions of captions, some of them dropped, as the pipelines would.

    Without a caption, SD1.5's and SD2.1's pipelines encode an empty one and SDXL's takes zeros.

    Args:
        tokens: (N, 32) int64 captions; dropped: (N, 1) bool; empty: (1, 32) the empty caption.
    """
    if not family.xl:
        return embed(encoders, torch.where(dropped, empty, tokens))[0], None
    words, pooled = embed(encoders, tokens)
    size = torch.full((len(tokens), 2), float(IMAGE_SIZE), device=tokens.device)
    ids = torch.cat([size, torch.zeros_like(size), size], 1)
    kept = ~dropped
    return words * kept[:, None], {"text_embeds": pooled * kept, "time_ids": ids}


def denoising_step(
    family: Family,
    model: Denoiser,
    optimiser: Optimiser,
    data: Data,
    latents: Tensor,
    empty: Tensor,
    options: TrainingOptions,
) -> Callable[[], Tensor]:
    """One training step on random scenes, noises and timesteps; a tenth of the captions dropped."""
    device = latents.device
    alphas = build_scheduler(family).alphas_cumprod.to(device)
    weights = loss_weights(alphas, family.prediction_type)
    unet = torch.compile(model.unet, dynamic=False) if options.compile else model.unet
    live = [p.data for p in model.parameters]

    def step() -> Tensor:
        rows = torch.randint(len(latents), (options.unet_batch,), device=device)
        clean = latents[rows].float()
        dropped = torch.rand(len(rows), 1, device=device) < 0.1
        noise = torch.randn_like(clean)
        times = torch.randint(len(alphas), (len(rows),), device=device)
        signal = alphas[times].sqrt()[:, None, None, None]
        sigma = (1 - alphas[times]).sqrt()[:, None, None, None]
        target = signal * noise - sigma * clean if family.prediction_type != "epsilon" else noise
        with half_precision(device):
            words, added = conditions(
                family, model.text_encoders, data.tokens[rows], dropped, empty
            )
            noisy = signal * clean + sigma * noise
            out = unet(noisy, times, words, added_cond_kwargs=added).sample
        errors = ((out.float() - target) ** 2).mean((1, 2, 3))
        loss = optimiser.update((weights[times] * errors).mean())
        torch._foreach_lerp_(model.means, live, 1 - options.ema)
        return loss

    return step


def scenes_right(pipe: Pipeline, captions: Sequence[str], steps: int) -> float:
    """Share of captions whose DDIM image shows exactly what they say."""
    readings = read_scenes(generate(pipe, captions, "DDIM", steps, batch=len(captions)))
    pairs = zip(captions, readings, strict=True)
    return sum(judge(parse_caption(c), r).right for c, r in pairs) / len(captions)


def train_unet(
    family: Family,
    data: Data,
    latents: Tensor,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    options: TrainingOptions,
    state_file: Path,
) -> Denoiser:
    """Train U-Net and text encoder; every report writes `state_file`, from which it goes on."""
    device = latents.device
    texts = build_text_encoders(family, tokenizer).to(device)
    model = Denoiser(build_unet(family).to(device).train(), texts.train(), [])
    model.means = [p.detach().clone() for p in model.parameters]
    if state_file.exists():
        model.load(torch.load(state_file, weights_only=True))
        log(f"unet: going on from step {model.steps}")
    begun = model.steps
    optimiser = Optimiser(model.parameters, options.unet_rate)
    empty = encode_captions(tokenizer, [""]).to(device)
    captions = prompt_sets()["mini-heldout.txt"][: options.report_captions]
    run = denoising_step(family, model, optimiser, data, latents, empty, options)
    if model.steps < options.unet_steps:
        run = captured(run, device)
    start = time.perf_counter()
    while model.steps < options.unet_steps:
        warm = min(1.0, (model.steps - begun + 1) / 200)
        optimiser.set_share(warm * trapezoid(model.steps, options.unet_steps))
        loss = run()
        model.steps += 1
        if model.steps % options.report_every == 0 or model.steps == options.unet_steps:
            value, seconds = loss.item(), time.perf_counter() - start
            torch.save(model.state(), state_file.with_suffix(".part"))
            state_file.with_suffix(".part").replace(state_file)
            mean = model.averaged(family, tokenizer)
            pipe = build_pipeline(family, vae, mean.text_encoders, mean.unet, tokenizer)
            pipe.set_progress_bar_config(disable=True)
            save_pipeline(pipe, state_file.parent.parent / family.name)
            right = scenes_right(pipe, captions, 20)
            log(f"unet {model.steps}: loss {value:.4f}, {seconds:.0f} s, right at 20: {right:.3f}")
    return model.averaged(family, tokenizer)
