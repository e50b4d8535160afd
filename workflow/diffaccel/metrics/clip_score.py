"""CLIP score: how well an image fits its prompt (Hessel et al., 2021, arXiv:2104.08718)."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.metrics.base import Compute, Images, Metric


class ClipScore(Metric):
    """100 times the cosine of image and text embedding, at least 0; torchmetrics' ``CLIPScore``."""

    name = "clip_score"
    unit = "points of 100"
    direction = "higher"
    needs_reference = False

    def prepare(self, scorer: str, device: str) -> Compute:
        import torch
        from torchmetrics.multimodal import CLIPScore

        metric = CLIPScore(model_name_or_path=scorer).to(device)
        # Half-precision weights are for storage; a CPU computes them slowly and less exactly.
        metric.model.float().eval()

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            tensors = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
            # One image a call: the metric gives the mean of a call, and we keep each.
            return [
                float(metric(tensor, prompt))
                for tensor, prompt in zip(tensors, prompts, strict=True)
            ]

        return compute


PLUGIN = ClipScore()
