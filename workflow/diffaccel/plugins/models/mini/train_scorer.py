"""Training the scorer of the mini models, which gives images and captions a CLIP score."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from diffaccel.plugins.models.mini.models import (
    build_scorer,
    encode_captions,
)
from diffaccel.plugins.models.mini.scenes import (
    alter,
)
from diffaccel.plugins.models.mini.training import (
    Data,
    Optimiser,
    TrainingOptions,
    captured,
    half_precision,
    log,
    to_unit,
    trapezoid,
)

WRONG_CAPTIONS = 4  # captions with one attribute changed, a scene
TRUE_COSINE = 0.9  # what the scorer gives a clean image and its caption
WRONG_MARGIN = 0.3  # by how much one wrong attribute must lower that


def degrade(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Harm some of the latents as a failing sampler would: noise, ghosts of others, blur.

    Returns:
        The latents and how badly each is harmed, (N,), 0 for untouched to 0.7.
    """
    n = len(latents)
    kind = torch.randint(6, (n, 1, 1, 1), device=latents.device)
    much = torch.rand(n, 1, 1, 1, device=latents.device) * (kind < 3)
    noisy = latents + much * torch.randn_like(latents)
    ghost = torch.lerp(latents, latents.roll(1, 0), much / 2)
    blurred = torch.lerp(latents, F.avg_pool2d(latents, 5, 1, 2, count_include_pad=False), much)
    harmed = torch.where(kind == 0, noisy, torch.where(kind == 1, ghost, blurred))
    return harmed, 0.7 * much.flatten()


def scorer_loss(image: Tensor, true: Tensor, wrong: Tensor, harm: Tensor, scale: Tensor) -> Tensor:
    """Contrast captions over the batch and over near misses, and calibrate the cosine.

    Args:
        image, true: (N, D) unit embeddings of images and of their captions.
        wrong: (N, K, D) unit embeddings of captions with one attribute changed.
        harm: (N,) how badly each image is degraded; the cosine must fall with it.
        scale: the contrast's inverse temperature.
    """
    across = image @ true.T
    near = (image[:, None] * wrong).sum(-1)
    own = torch.arange(len(image), device=image.device)
    contrast = F.cross_entropy(scale * torch.cat([across, near], 1), own, reduction="none")
    contrast = contrast + F.cross_entropy(scale * across.T, own, reduction="none")
    aim = TRUE_COSINE * (1 - harm)
    calibration = (across.diagonal() - aim) ** 2
    misses = F.relu(near - aim[:, None] + WRONG_MARGIN).mean(1)
    return ((1 - harm) * contrast + 5 * calibration + 2 * misses).mean()


def train_scorer(
    data: Data,
    latents: Tensor,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    options: TrainingOptions,
    device: torch.device,
) -> CLIPModel:
    """Train the scorer on drawn, reconstructed and degraded scenes."""
    model = build_scorer(tokenizer).to(device).train()
    optimiser = Optimiser(model.parameters(), 1e-3, decay=0.05)
    rng = random.Random(options.seed)
    scenes = data.scenes[: options.pictures]
    wrong = [alter(scene, rng).caption for scene in scenes for _ in range(WRONG_CAPTIONS)]
    wrong_tokens = (
        encode_captions(tokenizer, wrong).view(len(scenes), WRONG_CAPTIONS, -1).to(device)
    )

    def step() -> Tensor:
        rows = torch.randint(len(scenes), (options.scorer_batch,), device=device)
        drawn = to_unit(data.pictures[rows])
        harmed, harm = degrade(latents[rows].float())
        tokens = torch.cat([data.tokens[rows][:, None], wrong_tokens[rows]], 1)
        with half_precision(device):
            with torch.no_grad():
                decoded = vae.decode(harmed / vae.config.scaling_factor).sample.float().clamp(-1, 1)
            plain = torch.rand(len(rows), device=device) < 0.3
            harm = harm * ~plain
            pixels = torch.where(plain[:, None, None, None], drawn, decoded)
            seen = model.visual_projection(model.vision_model(pixels).pooler_output)
            text = model.text_model(tokens.flatten(0, 1)).pooler_output
            said = model.text_projection(text).unflatten(0, tokens.shape[:2])
        seen, said = F.normalize(seen.float(), dim=-1), F.normalize(said.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)
        return optimiser.update(scorer_loss(seen, said[:, 0], said[:, 1:], harm, scale))

    run = captured(step, device)
    for k in range(options.scorer_steps):
        optimiser.set_share(trapezoid(k, options.scorer_steps))
        loss = run()
        if k % 500 == 0 or k == options.scorer_steps - 1:
            log(f"scorer {k}: loss {loss.item():.4f}")
    return model.eval()
