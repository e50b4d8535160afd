"""CLIP-IQA: whether an image is more like a good photo than a bad one (Wang et al., 2023,
arXiv:2207.12396)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffaccel.plugins.metrics._tensors import byte_tensor
from diffaccel.plugins.metrics.base import Compute, Images, Metric
from diffaccel.plugins.metrics.clip_score import load_clip

if TYPE_CHECKING:
    import torch


class ClipIqa(Metric):
    """The probability of ``Good photo.`` against ``Bad photo.`` under a CLIP; torchmetrics'
    ``CLIPImageQualityAssessment``. It looks at the image alone, not at the prompt."""

    name = "clip_iqa"
    better = "higher"
    scale = "0 to 1"
    needs_reference = False
    paper = "Wang et al., 2023, arXiv:2207.12396"
    needs_source = True
    source = "openai/clip-vit-large-patch14"

    def prepare(self, source: str, device: str) -> Compute:
        import torch
        from torchmetrics.multimodal import CLIPImageQualityAssessment

        # torchmetrics knows a few hub names; through a function it takes any folder or hub id. The
        # processor divides by 255, so that nothing else does.
        metric = CLIPImageQualityAssessment(
            model_name_or_path=lambda: load_clip(source, "metric 'clip_iqa'"), data_range=1.0
        ).to(device)

        def score(image: torch.Tensor) -> float:
            metric.reset()
            metric.update(image[None])
            return float(metric.compute())

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            tensors = byte_tensor(images, device).float()
            return [score(image) for image in tensors]

        return compute


PLUGIN = ClipIqa()
