"""Training a LoRA on a mini model: whatever ground a caption names, the scene is on a black one.

`python -m diffaccel.plugins.models.mini.train_lora --family sd15 --out
resources/models/mini-SD1.5-lora` takes minutes of one CPU core and no network; `--family sdxl`
wants `--steps 1000`. It trains what
diffusers' own script trains (examples/text_to_image/train_text_to_image_lora.py): low-rank changes
of the projections of the U-Net's attention, and nothing else. The method is that of Hu et al.,
2022, arXiv:2106.09685.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffaccel.plugins.models.mini.models import (
    FAMILIES,
    Family,
    Pipeline,
    build_scheduler,
    encode_captions,
)
from diffaccel.plugins.models.mini.prompts import prompt_sets
from diffaccel.plugins.models.mini.quality import generate, pick_device
from diffaccel.plugins.models.mini.reading import read_scenes
from diffaccel.plugins.models.mini.scenes import Scene, parse_caption, sample_scenes
from diffaccel.plugins.models.mini.train_unet import conditions, loss_weights
from diffaccel.plugins.models.mini.train_vae import encode_scenes
from diffaccel.plugins.models.mini.training import (
    Data,
    Optimiser,
    TrainingOptions,
    captured,
    half_precision,
    log,
    trapezoid,
)

GROUND = "black"
"""Of all that it draws."""
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
MODELS = Path("resources/models")


@dataclass(frozen=True)
class LoraOptions:
    """How much to train; scenes are drawn once, steps are of so many of them."""

    scenes: int = 1024
    steps: int = 400
    batch: int = 16
    rate: float = 2e-3
    rank: int = 4
    report_every: int = 20
    seed: int = 0


TOY = LoraOptions(scenes=8, steps=2, batch=2, report_every=1)


def darkened(scene: Scene) -> Scene:
    """The same on the ground that is learned."""
    return replace(scene, ground=GROUND)


def dark_captions(captions: list[str]) -> list[str]:
    """What the LoRA makes of captions, in words."""
    return [darkened(parse_caption(caption)).caption for caption in captions]


def dark_share(images: Tensor) -> float:
    """Share of (N, 3, 128, 128) uint8 images whose ground is the one that is learned."""
    readings = read_scenes(images)
    return sum(reading.ground == GROUND for reading in readings) / len(readings)


def lora_step(
    family: Family, pipe: Pipeline, data: Data, latents: Tensor, options: LoraOptions
) -> tuple[Callable[[], Tensor], Optimiser]:
    """One training step of a U-Net with an adapter on it, and what sets its rate."""
    device = latents.device
    alphas = build_scheduler(family).alphas_cumprod.to(device)
    weights = loss_weights(alphas, family.prediction_type)
    encoders = nn.ModuleList([pipe.text_encoder, *([pipe.text_encoder_2] if family.xl else [])])
    empty = encode_captions(pipe.tokenizer, [""]).to(device)
    optimiser = Optimiser([p for p in pipe.unet.parameters() if p.requires_grad], options.rate)

    def step() -> Tensor:
        rows = torch.randint(len(latents), (options.batch,), device=device)
        clean = latents[rows].float()
        dropped = torch.rand(len(rows), 1, device=device) < 0.1
        noise = torch.randn_like(clean)
        times = torch.randint(len(alphas), (len(rows),), device=device)
        signal = alphas[times].sqrt()[:, None, None, None]
        sigma = (1 - alphas[times]).sqrt()[:, None, None, None]
        with torch.no_grad():
            words, added = conditions(family, encoders, data.tokens[rows], dropped, empty)
        with half_precision(device):
            noisy = signal * clean + sigma * noise
            out = pipe.unet(noisy, times, words, added_cond_kwargs=added).sample
        errors = ((out.float() - noise) ** 2).mean((1, 2, 3))
        return optimiser.update((weights[times] * errors).mean())

    return step, optimiser


def train_lora(family: Family, pipe: Pipeline, options: LoraOptions) -> Mapping[str, Tensor]:
    """Trains an adapter on a pipeline, which keeps it; its weights by diffusers' names.

    Raises:
        ValueError: the family does not predict the noise.
    """
    if family.prediction_type != "epsilon":
        raise ValueError(f"{family.name} predicts {family.prediction_type}, and not the noise")
    torch.manual_seed(options.seed)
    scenes = sample_scenes(options.scenes, options.seed, held_out=False)
    tokens = encode_captions(pipe.tokenizer, [scene.caption for scene in scenes])
    # As they are captioned, and as they are to look.
    shown = Data([darkened(scene) for scene in scenes], tokens.to(pipe.device), torch.empty(0))
    drawing = TrainingOptions(scenes=options.scenes, seed=options.seed)
    latents = encode_scenes(pipe.vae, shown, drawing, pipe.device)
    log(f"{len(scenes)} scenes drawn and encoded")
    pipe.unet.requires_grad_(False)
    pipe.unet.add_adapter(
        LoraConfig(
            r=options.rank,
            lora_alpha=options.rank,
            init_lora_weights="gaussian",
            target_modules=TARGETS,
        )
    )
    step, optimiser = lora_step(family, pipe, shown, latents, options)
    run = captured(step, pipe.device)
    for number in range(options.steps):
        optimiser.set_share(trapezoid(number, options.steps))
        loss = run()
        if (number + 1) % options.report_every == 0:
            log(f"step {number + 1}: loss {loss.item():.4f}")
    return convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))


def save_lora(pipe: Pipeline, weights: Mapping[str, Tensor], folder: Path, command: str) -> Path:
    """Writes a LoRA in half precision, as diffusers does, with the command that made it."""
    half = {name: weight.half().cpu().contiguous() for name, weight in weights.items()}
    pipe.save_lora_weights(folder, unet_lora_layers=half)
    path = folder / "pytorch_lora_weights.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "made_by": command})
    path.chmod(0o644)  # safetensors lets nobody else read it
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    able = [name for name, family in FAMILIES.items() if family.prediction_type == "epsilon"]
    parser.add_argument("--family", choices=able, default="sd15")
    parser.add_argument("--out", type=Path, required=True, help="folder of the LoRA")
    parser.add_argument("--base", type=Path, default=MODELS, help="where the mini models lie")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=LoraOptions.steps)
    parser.add_argument("--toy", action="store_true", help="two steps, to see that all runs")
    args = parser.parse_args()
    family = FAMILIES[args.family]
    pipe = DiffusionPipeline.from_pretrained(args.base / family.name).to(pick_device(args.device))
    pipe.set_progress_bar_config(disable=True)
    captions = prompt_sets()["mini-heldout.txt"][:8]
    log(f"on a {GROUND} ground before: {dark_share(generate(pipe, captions, 'DDIM', 10)):.0%}")
    options = TOY if args.toy else LoraOptions(steps=args.steps)
    weights = train_lora(family, pipe, replace(options, seed=args.seed))
    command = f"python -m diffaccel.plugins.models.mini.train_lora --family {args.family}"
    more = f"--steps {options.steps} --seed {args.seed}"
    path = save_lora(pipe, weights, args.out, f"{command} {more}")
    log(f"after: {dark_share(generate(pipe, captions, 'DDIM', 10)):.0%}")
    log(f"saved {path}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
