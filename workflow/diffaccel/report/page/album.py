"""The images of the page: as many and as large as fit."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

BYTES = 6 * 2**20
"""Of all images together, at most, as text."""
WORST_BYTES = 2 * 2**20
"""The same of those that metrics call the worst, with the baseline's."""
SIDE, LEAST_SIDE = 256, 128
"""Pixels of an image's longer side: at most, and where fewer prompts are shown rather than less."""
SAMPLE = 16
"""Images that tell how many bytes a pixel takes."""
QUALITY = 85


@dataclass
class Album:
    """Images in the order in which they were added; the same one is added once. Where there is no
    room for all, those are left out whose number of the prompt, or of another rank, is large."""

    _numbers: dict[Path, int] = field(default_factory=dict)
    _prompts: list[int] = field(default_factory=list)

    def add(self, path: Path, prompt: int) -> int:
        """Number of an image of the prompt of that number."""
        if path not in self._numbers:
            self._numbers[path] = len(self._prompts)
            self._prompts.append(prompt)
        number = self._numbers[path]
        self._prompts[number] = min(prompt, self._prompts[number])
        return number

    def images(self, numbers: Sequence[int]) -> list[Image.Image]:
        """Some of the images themselves, those that can be read, all of one size."""
        paths = [*self._numbers]
        found = [image for n in numbers if (image := _opened(paths[n], 2 * SIDE)) is not None]
        return [image.resize(found[0].size) for image in found]

    def encoded(self, limit: int = BYTES) -> list[str]:
        """Each image as a data URI; empty for those of prompts that are left out."""
        prompts, pixels = 1 + max(self._prompts, default=0), limit / self._per_pixel()
        while prompts > 1 and self._count(prompts) * LEAST_SIDE**2 > pixels:
            prompts -= 1
        side = max(1, min(SIDE, math.isqrt(int(pixels / max(1, self._count(prompts))))))
        while True:
            made = [
                _data_uri(path, side) if prompt < prompts else ""
                for path, prompt in zip(self._numbers, self._prompts, strict=True)
            ]
            if sum(map(len, made)) <= limit or side <= 1:
                return made
            side = math.floor(side * 0.8)

    def _per_pixel(self) -> float:
        """Bytes of text that a pixel takes, about."""
        paths = [*self._numbers]
        some = paths[:: max(1, len(paths) // SAMPLE)]
        sizes = [(len(_data_uri(path, LEAST_SIDE)), _opened(path, LEAST_SIDE)) for path in some]
        pixels = sum(image.width * image.height for _, image in sizes if image is not None)
        return sum(size for size, _ in sizes) / max(1, pixels) or 1.0

    def _count(self, prompts: int) -> int:
        return sum(prompt < prompts for prompt in self._prompts)


def _opened(path: Path, side: int) -> Image.Image | None:
    """An image, at most so large; None for half a one, as a killed job leaves it."""
    try:
        image = Image.open(path).convert("RGB")
    except OSError:
        return None
    image.thumbnail((side, side))
    return image


def _data_uri(path: Path, side: int) -> str:
    image = _opened(path, side)
    if image is None:
        return ""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
