"""Inpainting with resources/models/mini-SD1.5: DDIMScheduler, 20 steps, accelerated by ToMe.

Task: An example
Pipeline: StableDiffusionInpaintPipeline, 128x128 pixels, guidance scale 7.5
Negative prompt: a cross
Strength: 1
Images: cropped at their centre to the proportions of 128x128, then resized
Parameters: tome.ratio=0.5, tome.max_downsample=2, tome.sx=2, tome.sy=2, tome.merge_attn=True,
  tome.merge_crossattn=False, tome.merge_mlp=False
Measured: 2.31x the speed without accelerators; CLIP score loss 0.0042 (95% interval -0.0021 to
  0.0104) over 64 prompts
Hardware: a made-up example, not a measurement
Versions: torch 2.13.0, diffusers 0.42.1, transformers 5.23.0
Date: 2026-11-20
Run: python THIS_FILE --prompt "..." --image photo.png --mask mask.png --seed 0 --out edited.png
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomesd
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from diffusers.utils import load_image
from PIL import Image, ImageOps

MODEL = "resources/models/mini-SD1.5"
STEPS = 20
GUIDANCE_SCALE = 7.5
HEIGHT = 128
WIDTH = 128
NEGATIVE_PROMPT = "a cross"
STRENGTH = 1.0


def load_pipeline(model: str = MODEL, device: str = "auto") -> StableDiffusionInpaintPipeline:
    """Loads the model and its sampler; the device "auto" is CUDA where there is any, or the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    pipe = StableDiffusionInpaintPipeline.from_pretrained(
        model, dtype=dtype, use_safetensors=True, safety_checker=None, requires_safety_checker=False
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe.to(device)


@contextmanager
def accelerated(pipe: StableDiffusionInpaintPipeline) -> Iterator[None]:
    """Accelerates the pipeline within a `with` block and leaves it as it was."""
    tomesd.apply_patch(pipe, ratio=0.5, max_downsample=2)
    # tomesd takes its random numbers from a copy of the global generator.
    torch.manual_seed(0)
    try:
        yield
    finally:
        tomesd.remove_patch(pipe)


def generate(
    pipe: StableDiffusionInpaintPipeline,
    prompts: list[str],
    seeds: list[int],
    images: list[Image.Image],
    masks: list[Image.Image],
    negative_prompts: list[str] | None = None,
) -> list[Image.Image]:
    """Generates an image for each prompt, each from the noise of its own seed."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    negative_prompts = negative_prompts or [NEGATIVE_PROMPT] * len(prompts)
    images = [
        ImageOps.fit(image.convert("RGB"), (WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        for image in images
    ]
    masks = [
        ImageOps.fit(mask.convert("L"), (WIDTH, HEIGHT), Image.Resampling.NEAREST) for mask in masks
    ]
    with accelerated(pipe):
        result = pipe(
            prompts,
            image=images,
            mask_image=masks,
            strength=STRENGTH,
            generator=generators,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            height=HEIGHT,
            width=WIDTH,
            negative_prompt=negative_prompts,
        )
    made: list[Image.Image] = result.images
    return made


def find(path: str) -> str:
    """Where this lies: in the current folder, or in one that this file lies in."""
    for folder in (Path(), *Path(__file__).resolve().parents):
        if (folder / path).exists():
            return str(folder / path)
    return path


def main() -> None:
    """Reads the command line, generates the images and writes them."""
    parser = argparse.ArgumentParser(description="Generates images from prompts.")
    parser.add_argument("--prompt", action="append", required=True, help="again for more images")
    parser.add_argument("--image", action="append", required=True, help="file; as many as prompts")
    parser.add_argument("--mask", action="append", required=True, help="file; as many as prompts")
    parser.add_argument("--negative-prompt", default=NEGATIVE_PROMPT, help="what is to be kept out")
    parser.add_argument("--seed", type=int, default=0, help="of the first image; the next has +1")
    parser.add_argument("--out", type=Path, default=Path("edited.png"), help="file to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    model = os.environ.get("DIFFACCEL_MODEL", find(MODEL))
    parser.add_argument("--model", default=model, help="folder or hub id; or in DIFFACCEL_MODEL")
    args = parser.parse_args()
    if len(args.image) != len(args.prompt):
        parser.error(
            f"{len(args.image)} of --image for {len(args.prompt)} of --prompt: as many are needed"
        )
    if len(args.mask) != len(args.prompt):
        parser.error(
            f"{len(args.mask)} of --mask for {len(args.prompt)} of --prompt: as many are needed"
        )
    if args.model == MODEL and not Path(MODEL).exists():
        parser.error(f"no {MODEL} here: say where it is with --model or DIFFACCEL_MODEL")

    pipe = load_pipeline(args.model, args.device)
    seeds = [args.seed + number for number in range(len(args.prompt))]
    negative = [args.negative_prompt] * len(args.prompt)
    images = [load_image(path) for path in args.image]
    masks = [load_image(path) for path in args.mask]
    for number, image in enumerate(generate(pipe, args.prompt, seeds, images, masks, negative)):
        path = args.out.with_stem(f"{args.out.stem}-{number}") if number else args.out
        image.save(path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
