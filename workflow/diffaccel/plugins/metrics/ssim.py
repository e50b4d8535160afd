"""Structural similarity to the baseline's image (Wang et al., 2004)."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.plugins.metrics._tensors import unit_tensor
from diffaccel.plugins.metrics.base import Compute, Images, Metric, with_references


class Ssim(Metric):
    """1.0 is the same image; torchmetrics' implementation with its defaults."""

    name = "ssim"
    better = "higher"
    scale = "-1 to 1; 1 is the same image"
    needs_reference = True
    paper = "Wang et al., 2004"
    usual = True

    def prepare(self, source: str, device: str) -> Compute:
        import torch
        from torchmetrics.functional.image import structural_similarity_index_measure

        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            both = images, with_references("ssim", references)
            first, second = (unit_tensor(array, device) for array in both)
            values = structural_similarity_index_measure(
                first, second, data_range=1.0, reduction="none"
            )
            return [float(value) for value in torch.atleast_1d(torch.as_tensor(values))]

        return compute


PLUGIN = Ssim()
