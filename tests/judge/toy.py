"""What the cheats generate with, in place of a pipeline: put into each before it is judged."""

from __future__ import annotations

import hashlib
import random
import time

COST = 0.025
"""Seconds of a processor that an image takes."""


def image_of(prompt: str, seed: int, cost: float = COST) -> memoryview:
    """Noise of the seed on the prompt's colour; it takes its time, of the processor's."""
    end = time.thread_time() + cost
    while time.thread_time() < end:
        pass
    rng = random.Random(seed)
    colour = hashlib.sha256(prompt.encode()).digest()[:3]
    pixels = bytes(each // 2 + rng.randrange(128) for _ in range(64) for each in colour)
    return memoryview(pixels).cast("B", (8, 8, 3))
