"""Training the autoencoder of a mini family, and its latents of the scenes."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from diffaccel.plugins.models.mini.models import (
    Family,
    build_vae,
)
from diffaccel.plugins.models.mini.scenes import (
    draw_scenes,
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


def picture_loss(out: Tensor, target: Tensor) -> Tensor:
    """Absolute difference of pixels and of their neighbours' steps, which keeps edges sharp."""
    loss = (out - target).abs().mean()
    for axis in (2, 3):
        loss = loss + (out.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    return loss


def train_vae(
    family: Family, data: Data, options: TrainingOptions, device: torch.device
) -> AutoencoderKL:
    """Train the autoencoder and bring its latents to SD1.5's scale."""
    vae = build_vae(family).to(device).train()
    optimiser = Optimiser(vae.parameters(), 1e-3)
    pictures = data.pictures

    def loss_of(target: Tensor) -> Tensor:
        with half_precision(device):
            posterior = vae.encode(target).latent_dist
            mean, spread = posterior.mean.float(), posterior.logvar.float()
            out = vae.decode(mean + torch.randn_like(mean) * (spread / 2).exp()).sample
        divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).mean()
        return picture_loss(out.float(), target) + 1e-5 * divergence

    compiled = torch.compile(loss_of, dynamic=False) if options.compile else loss_of

    def step() -> Tensor:
        rows = torch.randint(len(pictures), (options.vae_batch,), device=device)
        return optimiser.update(compiled(to_unit(pictures[rows])))

    run = captured(step, device)
    for k in range(options.vae_steps):
        optimiser.set_share(trapezoid(k, options.vae_steps))
        loss = run()
        if k % 1000 == 0 or k == options.vae_steps - 1:
            log(f"vae {k}: loss {loss.item():.4f}")
    normalise_latents(vae.eval(), pictures[:4096])
    return vae


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Fold a shift and a scale into the autoencoder's 1x1 convolutions.

    Afterwards each latent channel, times its scaling factor, has mean 0 and deviation 1.
    """
    latents = torch.cat(
        [vae.encode(to_unit(chunk)).latent_dist.mean for chunk in pictures.split(256)]
    )
    shift = latents.mean((0, 2, 3))
    scale = latents.std((0, 2, 3)) * vae.config.scaling_factor
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ shift
    after.weight *= scale[None, :, None, None]
    before.weight[:4] /= scale[:, None, None, None]
    before.bias[:4] = (before.bias[:4] - shift) / scale
    before.bias[4:] -= 2 * scale.log()


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKL, data: Data, options: TrainingOptions, device: torch.device
) -> Tensor:
    """Latents of all training scenes at the U-Net's scale, (N, 4, 16, 16) bfloat16."""
    parts = []
    for start in range(0, len(data.scenes), 1024):
        scenes = data.scenes[start : start + 1024]
        pictures = draw_scenes(scenes, options.seed + 1 + start, device)
        with half_precision(device):
            latents = vae.encode(to_unit(pictures)).latent_dist.mean
        parts.append((latents * vae.config.scaling_factor).bfloat16())
    return torch.cat(parts)
