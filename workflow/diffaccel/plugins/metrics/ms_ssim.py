"""Structural similarity at several sizes, to the baseline's image (Wang et al., 2003)."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.plugins.metrics._tensors import unit_tensor
from diffaccel.plugins.metrics.base import Compute, Images, Metric, with_references

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the sizes, from the whole image to a sixteenth, as published."""
KERNEL = 11
"""Pixels that the window of structural similarity spans."""


class MsSsim(Metric):
    """1.0 is the same image; torchmetrics' implementation with its defaults. An image that is too
    small for the five published sizes is compared at as many as it has, their weights scaled to the
    same sum."""

    name = "ms_ssim"
    better = "higher"
    scale = "0 to 1; 1 is the same image"
    needs_reference = True
    paper = "Wang et al., 2003"

    def prepare(self, source: str, device: str) -> Compute:
        from torchmetrics.functional.image import (
            multiscale_structural_similarity_index_measure as similarity,
        )

        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            both = images, with_references("ms_ssim", references)
            betas = weights(min(images.shape[1:3]))
            # In single precision the variance of a plain ground is little but rounding.
            first, second = (unit_tensor(each, device).double() for each in both)
            values = similarity(first, second, data_range=1.0, betas=betas, reduction="none")
            return [float(value) for value in values]

        return compute

    def refuses(self, prompts: Sequence[str], height: int, width: int) -> str:
        if min(height, width) >= KERNEL:
            return ""
        return f"it needs images of at least {KERNEL} pixels a side; these have {height}x{width}"


def weights(side: int) -> tuple[float, ...]:
    """Of each size that torchmetrics compares images with this shorter side at, in pixels."""
    count = max(
        size
        for size in range(1, len(WEIGHTS) + 1)
        if side // max(1, size - 1) ** 2 >= KERNEL and side // 2 ** (size - 1) > KERNEL // 2
    )
    share = sum(WEIGHTS[:count]) / sum(WEIGHTS)
    return tuple(weight / share for weight in WEIGHTS[:count])


PLUGIN = MsSsim()
