"""How good the mini models are: scenes read back from their images, captions picked by the scorer.

`python -m diffaccel.plugins.models.mini.quality` prints every figure; see
docs/reference/embedded-models.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from diffaccel.plugins.models.mini.models import FAMILIES, GUIDANCE, Pipeline, encode_captions
from diffaccel.plugins.models.mini.prompts import prompt_sets
from diffaccel.plugins.models.mini.reading import SceneResult, judge, read_scenes
from diffaccel.plugins.models.mini.scenes import draw_scenes, parse_caption

SCHEDULERS = {
    "DDIM": DDIMScheduler,
    "DPM-Solver++": DPMSolverMultistepScheduler,
    "UniPC": UniPCMultistepScheduler,
}
RUNS = (("DDIM", 50), ("DDIM", 20), ("DPM-Solver++", 20), ("UniPC", 20))
CHOICES = 32  # captions among which the scorer must find the true one


@dataclass(frozen=True)
class Figures:
    """Results of one set of images, as shares of 1 (scores of 100).

    Attributes:
        right: scenes with everything right; the next six are its parts.
        picked: images whose true caption scores highest among 32.
        score, shuffled: mean score with the true captions and with one another's.
    """

    images: str
    right: float
    count: float
    shapes: float
    colours: float
    sizes: float
    slots: float
    ground: float
    picked: float
    score: float
    shuffled: float


def generate(
    pipe: Pipeline,
    captions: Sequence[str],
    scheduler: str,
    steps: int,
    guidance: float = GUIDANCE,
    seed: int = 0,
    batch: int = 32,
) -> torch.Tensor:
    """Generate one image a caption; returns (N, 3, H, W) uint8 on the CPU.

    Each image has a noise of its own, the same whatever the batch.
    """
    pipe.scheduler = SCHEDULERS[scheduler].from_config(pipe.scheduler.config)
    parts = []
    for start in range(0, len(captions), batch):
        prompts = list(captions[start : start + batch])
        generators = [torch.Generator().manual_seed(seed + start + k) for k in range(len(prompts))]
        images = pipe(
            prompts,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            output_type="np",
        ).images
        pixels = torch.from_numpy((images * 255).round().astype(np.uint8))
        parts.append(pixels.permute(0, 3, 1, 2))
    return torch.cat(parts)


@torch.no_grad()
def similarities(
    scorer: CLIPModel, tokenizer: CLIPTokenizer, images: torch.Tensor, captions: Sequence[str]
) -> torch.Tensor:
    """Scores of every image with every caption, (N, M), 100 times the cosine."""
    device = scorer.device
    texts = scorer.text_model(encode_captions(tokenizer, list(captions)).to(device)).pooler_output
    text = torch.nn.functional.normalize(scorer.text_projection(texts), dim=-1)
    parts = []
    for chunk in images.split(64):
        pixels = chunk.to(device).float() / 127.5 - 1
        image = scorer.visual_projection(scorer.vision_model(pixels).pooler_output)
        parts.append(torch.nn.functional.normalize(image, dim=-1) @ text.T)
    return 100 * torch.cat(parts).cpu()


def picked_share(scores: torch.Tensor) -> float:
    """Share of images whose own caption wins among it and its 31 successors in the list."""
    n = len(scores)
    columns = (torch.arange(n)[:, None] + torch.arange(min(CHOICES, n))) % n
    return float((scores.gather(1, columns).argmax(1) == 0).float().mean())


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)


def measure(
    name: str,
    images: torch.Tensor,
    captions: Sequence[str],
    scorer: CLIPModel,
    tokenizer: CLIPTokenizer,
) -> Figures:
    """Read and score (N, 3, 128, 128) uint8 images of N captions."""
    verdicts: list[SceneResult] = [
        judge(parse_caption(caption), reading)
        for caption, reading in zip(captions, read_scenes(images), strict=True)
    ]
    scores = similarities(scorer, tokenizer, images, captions)
    return Figures(
        images=name,
        right=_share(v.right for v in verdicts),
        count=_share(v.count for v in verdicts),
        shapes=_share(v.shapes for v in verdicts),
        colours=_share(v.colours for v in verdicts),
        sizes=_share(v.sizes for v in verdicts),
        slots=_share(v.slots for v in verdicts),
        ground=_share(v.ground for v in verdicts),
        picked=picked_share(scores),
        score=float(scores.diagonal().mean()),
        shuffled=float(scores.roll(1, 0).diagonal().mean()),
    )


@torch.no_grad()
def reconstruct(pipe: Pipeline, images: torch.Tensor) -> torch.Tensor:
    """Pass uint8 images through the autoencoder."""
    parts = []
    for chunk in images.split(64):
        pixels = chunk.to(pipe.device).float() / 127.5 - 1
        decoded = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample
        parts.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
    return torch.cat(parts)


def contact_sheet(images: torch.Tensor, columns: int = 8) -> Image.Image:
    """Put (N, 3, H, W) uint8 images side by side; N is cut to whole rows."""
    rows = max(1, len(images) // columns)
    n, _, height, width = images[: rows * columns].shape
    columns = min(columns, n)
    grid = images[: rows * columns].reshape(rows, columns, 3, height, width)
    pixels = grid.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray(pixels.numpy())


def pick_device(name: str) -> torch.device:
    """Resolve `auto` to the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def all_figures(
    pipe: Pipeline,
    scorer: CLIPModel,
    captions: Sequence[str],
    guidance: float = GUIDANCE,
    runs: Sequence[tuple[str, int]] = RUNS,
    sheets: Path | None = None,
) -> list[Figures]:
    """Measure drawn, reconstructed and generated images of the captions."""
    drawn = draw_scenes([parse_caption(caption) for caption in captions], seed=0)
    sets = {"drawn": drawn, "reconstructed": reconstruct(pipe, drawn)}
    for scheduler, steps in runs:
        images = generate(pipe, captions, scheduler, steps, guidance)
        sets[f"{scheduler} {steps} steps"] = images
    if sheets:
        sheets.mkdir(parents=True, exist_ok=True)
        for name, images in sets.items():
            contact_sheet(images[:64]).save(sheets / f"{name.replace(' ', '-')}.png")
    tokenizer = pipe.tokenizer
    return [measure(name, images, captions, scorer, tokenizer) for name, images in sets.items()]


def table(figures: Sequence[Figures]) -> str:
    """Lay the figures out as text."""
    names = [name for name in asdict(figures[0]) if name != "images"]
    lines = [f"{'images':<22}" + "".join(f"{name:>10}" for name in names)]
    for row in figures:
        values = asdict(row)
        cells = [values[n] if n in ("score", "shuffled") else 100 * values[n] for n in names]
        lines.append(f"{row.images:<22}" + "".join(f"{cell:>10.1f}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    root = Path("resources/models")
    shipped = [root / family.name for family in FAMILIES.values()]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", default=shipped, help="pipeline folders")
    parser.add_argument("--scorer", type=Path, default=root / "mini-clip")
    parser.add_argument("--captions", type=int, default=256, help="how many, at most 256")
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets (PNG)")
    parser.add_argument("--json", type=Path, help="file for the figures, by model")
    args = parser.parse_args()
    device = pick_device(args.device)
    scorer = CLIPModel.from_pretrained(args.scorer, dtype=torch.float32).to(device).eval()
    captions = [caption for name in prompt_sets().values() for caption in name][: args.captions]
    print("shares in percent; score: 100 x cosine with the true and with another's caption")
    found = {}
    for model in args.models:
        pipe = DiffusionPipeline.from_pretrained(model).to(device)
        pipe.set_progress_bar_config(disable=True)
        sheets = args.sheets and args.sheets / model.name
        figures = all_figures(pipe, scorer, captions, args.guidance, sheets=sheets)
        print(f"\n{model}, {len(captions)} held-out captions, guidance {args.guidance}, {device}")
        print(table(figures), flush=True)
        found[model.name] = [asdict(row) for row in figures]
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
