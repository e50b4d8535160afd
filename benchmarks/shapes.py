"""How should an image that is not square be shown to a CLIP model, which takes squares?

An embedded model generates images of 2:3 and 3:2, which are made squares in several ways and
scored, each with its own prompt and with that of the image before it. The better a way is, the
farther the two are apart, in standard deviations of their difference. Run by ``python -m
benchmarks.shapes``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from diffaccel.plugins.metrics import METRICS, SCORE
from diffaccel.plugins.metrics.base import Compute, Images

RESOURCES = Path(__file__).parents[1] / "resources"
SHAPES = ((128, 192), (192, 128))
"""Heights and widths, in pixels; the model is made for 128 by 128."""
STEPS, GUIDANCE, TOGETHER = 20, 3.0, 8
Pixels = NDArray[np.uint8]


def resized(image: Pixels) -> list[Pixels]:
    """The whole, its shapes squeezed."""
    side = min(image.shape[:2])
    return [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))]


def tiles(image: Pixels) -> list[Pixels]:
    """A square at each end."""
    side = min(image.shape[:2])
    return [image[:side, :side], image[-side:, -side:]]


def middle(image: Pixels) -> list[Pixels]:
    """What CLIP's processor takes."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return [image[top : top + side, left : left + side]]


def padded(image: Pixels, **how: Any) -> list[Pixels]:
    """The whole, in the middle of a square as large as its longer side.

    Args:
        how: what numpy fills the rest with.
    """
    missing = [max(image.shape[:2]) - length for length in image.shape[:2]]
    around = [(each // 2, each - each // 2) for each in missing]
    return [np.pad(image, [*around, (0, 0)], **how)]


WAYS: dict[str, Callable[[Pixels], list[Pixels]]] = {
    "resized to a square": resized,
    "mean of a tile at each end": tiles,
    "padded by repeating its edge": partial(padded, mode="edge"),
    "padded with white": partial(padded, constant_values=255),
    "padded with grey": partial(padded, constant_values=128),
    "padded with black": partial(padded, constant_values=0),
    "the middle alone": middle,
}


def generated(prompts: list[str], height: int, width: int) -> Images:
    """Images of the first embedded model, prompt i with seed i."""
    import torch
    from diffusers import DDIMScheduler, DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(RESOURCES / "models/mini-SD1.5")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    made: list[Image.Image] = []
    for first in range(0, len(prompts), TOGETHER):
        some = prompts[first : first + TOGETHER]
        seeds = range(first, first + len(some))
        made += pipe(
            some,
            height=height,
            width=width,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images
    return np.stack([np.asarray(image) for image in made])


def scores(score: Compute, squares: list[list[Pixels]], prompts: list[str]) -> NDArray[np.float64]:
    """Of each image, the mean over its squares."""
    return np.array(
        [
            np.mean(score(np.stack(own), [prompt] * len(own), None))
            for own, prompt in zip(squares, prompts, strict=True)
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=32)
    count: int = parser.parse_args().prompts
    lines = (RESOURCES / "prompts/mini.txt").read_text(encoding="utf-8").splitlines()
    prompts = lines[:count]
    others = prompts[-1:] + prompts[:-1]
    score = METRICS[SCORE].prepare(str(RESOURCES / "models/mini-clip"), "cpu")
    for height, width in SHAPES:
        images = generated(prompts, height, width)
        table = Table("way", "own prompt", "another's", "apart", title=f"{height}x{width}")
        for name, way in WAYS.items():
            squares = [way(image) for image in images]
            own, other = (scores(score, squares, each) for each in (prompts, others))
            apart = (own - other).mean() / (own - other).std(ddof=1)
            table.add_row(name, f"{own.mean():.1f}", f"{other.mean():.1f}", f"{apart:.1f}")
        Console().print(table)


if __name__ == "__main__":
    main()
