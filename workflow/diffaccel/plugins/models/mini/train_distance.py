"""Trains the perceptual distance of scenes, and measures it.

`python -m diffaccel.plugins.models.mini.train_distance --out resources/models/mini-scene-distance`
takes about ten minutes on one core; `--measure` only says how good the network in the folder is.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffaccel.plugins.models.mini.distance import (
    SceneDistance,
    Sizes,
    attributes_changed,
    chosen,
    load,
    save,
)
from diffaccel.plugins.models.mini.reading import judge, read_scenes
from diffaccel.plugins.models.mini.scenes import (
    COLOURS,
    GROUNDS,
    SHAPES,
    Placement,
    alter,
    draw,
    place_scenes,
    sample_scenes,
)
from diffaccel.plugins.models.mini.training import log, trapezoid

COMMAND = "python -m diffaccel.plugins.models.mini.train_distance"
MOST = 4
"""Attributes of a scene that are changed in training, at most."""
DRIFT = 5.0
"""Pixels that an object drifts by at most, with no attribute changed."""


@dataclass(frozen=True)
class Options:
    """How much to train."""

    pairs: int = 6144
    steps: int = 640
    batch: int = 48
    rate: float = 2e-3
    seed: int = 0


TOY = Options(pairs=16, steps=2, batch=4)


def drifted(placement: Placement, far: Tensor, maker: torch.Generator) -> Placement:
    """Objects a little moved and resized, nothing else changed.

    Args:
        far: pixels at most, of each scene.
    """
    moved = torch.rand(placement.boxes.shape, generator=maker) * 2 - 1
    step = moved * far[:, None, None] * torch.tensor([1.0, 1.0, 0.2])
    boxes = placement.boxes + step * (placement.boxes[..., 2:] > 0)
    return Placement(boxes, placement.kinds, placement.grounds)


def changed(placement: Placement, counts: Sequence[int], rng: random.Random) -> Placement:
    """So many attributes of each scene changed, each of another object or of another kind."""
    boxes, kinds, grounds = (
        each.clone() for each in (placement.boxes, placement.kinds, placement.grounds)
    )
    for row, count in enumerate(counts):
        objects = [k for k in range(boxes.shape[1]) if boxes[row, k, 2] > 0]
        every = [(k, what) for k in objects for what in ("shape", "colour", "size", "place")]
        for k, what in rng.sample([*every, (0, "ground")], count):
            if what == "ground":
                grounds[row] = _another(int(grounds[row]), len(GROUNDS), rng)
            elif what == "shape":
                kinds[row, k, 0] = _another(int(kinds[row, k, 0]), len(SHAPES), rng)
            elif what == "colour":
                kinds[row, k, 1] = _another(int(kinds[row, k, 1]), len(COLOURS), rng)
            elif what == "size":
                large = boxes[row, k, 2] > 18
                boxes[row, k, 2] += -8.0 if large else 8.0
            else:
                boxes[row, k, :2] = torch.tensor([rng.uniform(24, 104), rng.uniform(24, 104)])
    return Placement(boxes, kinds, grounds)


def _another(now: int, count: int, rng: random.Random) -> int:
    return rng.choice([each for each in range(count) if each != now])


@dataclass(frozen=True)
class Pairs:
    """Images two by two, (N, 3, 128, 128) uint8, and how many attributes differ."""

    first: Tensor
    second: Tensor
    changed: Tensor

    def __len__(self) -> int:
        return len(self.changed)


def make_pairs(first: Placement, second: Placement, seed: int) -> Pairs:
    """Scenes and others with as many objects, which drift a little."""
    maker = torch.Generator().manual_seed(seed)
    count = len(first.grounds)
    second = drifted(second, DRIFT * torch.rand(count, generator=maker) ** 2, maker)
    parts = torch.arange(count).split(256)
    images = [torch.cat([draw(chosen(each, rows)) for rows in parts]) for each in (first, second)]
    return Pairs(images[0], images[1], attributes_changed(first, second))


def harmed(images: Tensor) -> Tensor:
    """What a pipeline does to an image without changing what it shows: a little noise, blur, and
    other brightness."""
    size, place = (len(images), 1, 1, 1), images.device
    blurred = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = torch.lerp(images, blurred, torch.rand(size, device=place))
    tint = 1 + 0.06 * (torch.rand(len(images), 3, 1, 1, device=place) - 0.5)
    noise = torch.randn_like(images) * 6 * torch.rand(size, device=place)
    patch = torch.randn(len(images), 3, 8, 8, device=place) * 6 * torch.rand(size, device=place)
    smudges = F.interpolate(patch, images.shape[-2:], mode="bilinear")
    return (images * tint + noise + smudges).clamp(0, 255)


def train(options: Options) -> SceneDistance:
    """Trains on drawn pairs, of which some are blends: half of a change counts half."""
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    scenes = sample_scenes(options.pairs, options.seed, held_out=False)
    counts = [rng.choice((0, 0, 1, 1, 1, *range(2, MOST + 1))) for _ in scenes]
    placed = place_scenes(scenes, options.seed)
    pairs = make_pairs(placed, changed(placed, counts, rng), options.seed)
    log(f"{len(pairs)} pairs drawn")
    model = SceneDistance(Sizes())
    optimiser = torch.optim.AdamW(model.parameters(), options.rate, weight_decay=0.01)
    start = time.perf_counter()
    for step in range(options.steps):
        rows = torch.randint(len(pairs), (options.batch,))
        first, second = pairs.first[rows].float(), pairs.second[rows].float()
        share = torch.where(torch.rand(len(rows)) < 0.7, 1.0, torch.rand(len(rows)))
        second = torch.lerp(first, second, share[:, None, None, None])
        wanted = pairs.changed[rows] * share
        optimiser.param_groups[0]["lr"] = options.rate * trapezoid(step, options.steps, 50)
        found = model(harmed(first), harmed(second))
        # What matters most is whether anything changed, so that small distances are to be exact.
        loss = F.smooth_l1_loss((found + 1e-3).sqrt(), (wanted + 1e-3).sqrt(), beta=0.2)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0 or step == options.steps - 1:
            log(f"step {step}: loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s")
    return model.eval()


def auc(changed: Tensor, same: Tensor) -> float:
    """How often a changed pair is farther apart than one that is the same; a tie is a half."""
    difference = changed[:, None] - same[None]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())


@torch.inference_mode()
def distances(model: SceneDistance, pairs: Pairs) -> Tensor:
    """Of pairs whose images were harmed."""
    parts = torch.arange(len(pairs)).split(64)
    return torch.cat(
        [
            model(harmed(pairs.first[rows].float()), harmed(pairs.second[rows].float()))
            for rows in parts
        ]
    )


def measured(model: SceneDistance, count: int, seed: int = 1) -> dict[str, float]:
    """How well it separates held-out scenes whose captions changed in one word from those that only
    drifted and were harmed; whether a scene is right is read off its image."""
    torch.manual_seed(seed)
    rng = random.Random(f"altered {seed}")
    scenes = sample_scenes(count, seed, held_out=True)
    altered = torch.arange(count) % 2 == 1
    others = [alter(s, rng) if other else s for s, other in zip(scenes, altered, strict=True)]
    pairs = make_pairs(place_scenes(scenes, seed), place_scenes(others, seed), seed)
    far = distances(model, pairs)
    readings = read_scenes(pairs.second)
    right = torch.tensor([judge(s, r).right for s, r in zip(scenes, readings, strict=True)])
    one = altered & ((pairs.changed - 1).abs() < 0.35)
    return {
        "pairs": count,
        "scenes not right any more": float((~right).sum()),
        "AUC by the scene reader": auc(far[~right], far[right]),
        "AUC by what was altered": auc(far[altered], far[~altered]),
        "median distance, nothing altered": float(far[~altered].median()),
        "95% of these are below": float(far[~altered].quantile(0.95)),
        "median distance, one attribute": float(far[one].median()),
        "5% of these are below": float(far[one].quantile(0.05)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the network")
    parser.add_argument("--measure", action="store_true", help="only measure what is there")
    parser.add_argument("--toy", action="store_true", help="two steps, to try the code")
    parser.add_argument("--pairs", type=int, default=1536, help="held-out pairs to measure on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.measure:
        model = train(TOY if args.toy else Options())
        save(model, args.out, {"command": f"{COMMAND} --out {args.out}", "seed": "0"})
    for name, value in measured(load(args.out), args.pairs).items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
