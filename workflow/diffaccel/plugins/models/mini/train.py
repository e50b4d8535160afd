"""Training a mini family from nothing: autoencoder, scorer, then U-Net with text encoder.

`python -m diffaccel.plugins.models.mini.train --family sd15 --out DIR` needs one GPU and no
network. Every stage leaves its weights in DIR/state; a run that was stopped goes on from there, and
a longer `--unet-steps` continues a finished one. DIR then holds the pipeline's and the scorer's
folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPModel

from diffaccel.plugins.models.mini.models import (
    FAMILIES,
    Family,
    build_pipeline,
    build_processor,
    build_scorer,
    build_tokenizer,
    build_vae,
    save_pipeline,
    save_scorer,
)
from diffaccel.plugins.models.mini.prompts import prompt_sets
from diffaccel.plugins.models.mini.quality import all_figures, pick_device, table
from diffaccel.plugins.models.mini.train_scorer import train_scorer
from diffaccel.plugins.models.mini.train_unet import train_unet
from diffaccel.plugins.models.mini.train_vae import encode_scenes, normalise_latents, train_vae
from diffaccel.plugins.models.mini.training import TOY, Data, TrainingOptions, log, prepare_data

MODELS = Path("resources/models")
SCORER = "mini-clip"


def stage(file: Path, model: nn.Module, train: Callable[[], nn.Module]) -> nn.Module:
    """Load a finished stage's weights into `model`, or train it and keep them."""
    if file.exists():
        log(f"{file.stem}: from {file}")
        model.load_state_dict(torch.load(file, weights_only=True))
        return model
    trained = train()
    torch.save(trained.state_dict(), file)
    return trained


def base_vae(family: Family, base: Path, data: Data, device: torch.device) -> AutoencoderKL:
    """Another family's autoencoder, at this one's scale."""
    vae = build_vae(family)
    vae.load_state_dict(AutoencoderKL.from_pretrained(base / "vae").state_dict())
    vae = vae.to(device)
    normalise_latents(vae.eval(), data.pictures[:4096])
    return vae


def train_family(
    family: Family, out: Path, options: TrainingOptions, device: torch.device, base: Path = MODELS
) -> None:
    """Train everything of one family that `out` does not hold yet, and save the folders.

    Args:
        base: folder of the models whose parts the family takes over.
    """
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    state = out / "state"
    state.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    data = prepare_data(options, tokenizer, device)
    log(f"data: {len(data.scenes)} scenes")
    vae = stage(
        state / "vae.pt",
        build_vae(family).to(device),
        lambda: (
            base_vae(family, base / family.base, data, device)
            if family.base
            else train_vae(family, data, options, device)
        ),
    ).eval()
    vae.requires_grad_(False)
    latents = encode_scenes(vae, data, options, device)
    log(f"latents: std {latents.float().std().item():.3f}")
    if family.base:
        scorer = CLIPModel.from_pretrained(base / SCORER, dtype=torch.float32).to(device).eval()
    else:
        scorer = stage(
            state / "scorer.pt",
            build_scorer(tokenizer).to(device),
            lambda: train_scorer(data, latents, vae, tokenizer, options, device),
        ).eval()
        save_scorer(scorer, build_processor(tokenizer), out / SCORER)
    captions = prompt_sets()["mini.txt"][: options.report_captions]
    model = train_unet(family, data, latents, vae, tokenizer, options, state / "unet.pt")
    pipe = build_pipeline(family, vae, model.text_encoders, model.unet, tokenizer)
    pipe.set_progress_bar_config(disable=True)
    save_pipeline(pipe, out / family.name)
    log(f"saved {out / family.name}")
    print(table(all_figures(pipe, scorer, captions, runs=(("DDIM", 20),))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=tuple(FAMILIES), default="sd15")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=MODELS, help="where finished models lie")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unet-steps", type=int)
    parser.add_argument("--compile", action="store_true", help="torch.compile the U-Net")
    parser.add_argument("--toy", action="store_true", help="a few steps, to see that all runs")
    args = parser.parse_args()
    options = replace(TOY if args.toy else TrainingOptions(), seed=args.seed, compile=args.compile)
    if args.unet_steps is not None:
        options = replace(options, unet_steps=args.unet_steps)
    train_family(FAMILIES[args.family], args.out, options, pick_device(args.device), args.base)


if __name__ == "__main__":
    main()
