"""What the cheats draw with, in place of a pipeline: put into each before it is judged."""

from __future__ import annotations

import hashlib
import random
import time

COST = 0.015
"""Seconds that an image takes."""


def draw(prompt: str, seed: int, cost: float = COST) -> memoryview:
    """Noise of the seed on the prompt's colour; it takes its time."""
    end = time.perf_counter() + cost
    while time.perf_counter() < end:
        pass
    rng = random.Random(seed)
    colour = hashlib.sha256(prompt.encode()).digest()[:3]
    pixels = bytes(each // 2 + rng.randrange(128) for _ in range(64) for each in colour)
    return memoryview(pixels).cast("B", (8, 8, 3))
