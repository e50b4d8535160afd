"""What a metric costs on one core: seconds an image, of scenes that are drawn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from diffaccel.evaluation.bench import be_quiet
from diffaccel.machine import devices
from diffaccel.plugins.metrics import prepared
from diffaccel.plugins.models import ModelSpec
from diffaccel.store.jsonio import today

IMAGES, ROUNDS = 32, 7


@dataclass(frozen=True)
class Costs:
    """Seconds an image by metric, medians of rounds.

    Args:
        images: scored at once.
    """

    seconds: Mapping[str, float]
    images: int
    rounds: int
    device: str
    date: str


def measured(spec: ModelSpec, images: int = IMAGES, rounds: int = ROUNDS) -> Costs:
    """Scores drawn scenes by each metric of a model, in turns; the first round does not count."""
    import torch

    from diffaccel.plugins.models.mini.scenes import draw_scenes, sample_scenes

    torch.set_num_threads(1)
    be_quiet()
    scenes = sample_scenes(images, 0, held_out=False)
    own, reference = (
        draw_scenes(scenes, seed).permute(0, 2, 3, 1).contiguous().numpy() for seed in (0, 1)
    )
    captions = [scene.caption for scene in scenes]
    computed = prepared(spec.metrics, spec.scorer, "cpu")
    taken: dict[str, list[float]] = {name: [] for name in computed}
    for number in range(rounds + 1):
        for name, compute in computed.items():
            start = time.perf_counter()
            compute(own, captions, reference)
            if number:
                taken[name].append((time.perf_counter() - start) / images)
    seconds = {name: float(f"{statistics.median(each):.3g}") for name, each in taken.items()}
    return Costs(seconds, images, rounds, devices.describe()[0], today())
