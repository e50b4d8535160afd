"""Structural similarity to the baseline's image (Wang et al., 2004)."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.plugins.metrics.base import Compute, Images, Metric


class Ssim(Metric):
    """1.0 is the same image; torchmetrics' implementation with its defaults."""

    name = "ssim"
    needs_reference = True

    def prepare(self, scorer: str, device: str) -> Compute:
        import torch
        from torchmetrics.functional.image import structural_similarity_index_measure

        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            if references is None:
                raise ValueError("ssim compares with reference images; got none")
            first, second = (
                torch.from_numpy(array).permute(0, 3, 1, 2).to(device).float() / 255
                for array in (images, references)
            )
            values = structural_similarity_index_measure(
                first, second, data_range=1.0, reduction="none"
            )
            return [float(value) for value in torch.atleast_1d(torch.as_tensor(values))]

        return compute


PLUGIN = Ssim()
