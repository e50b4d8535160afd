"""The sizes of images and latents in diffusers' configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def height_and_width(size: Any) -> tuple[int, int] | None:
    """A ``sample_size`` as a pair: diffusers writes one number for a square, else height and width.

    None where there is none, or another value.
    """
    if isinstance(size, int):
        return size, size
    if isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) for n in size):
        height, width = size
        return height, width
    return None
