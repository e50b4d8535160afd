"""Similarity of DINOv2's features to those of the baseline's image (Oquab et al., 2023,
arXiv:2304.07193)."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.plugins.metrics._weights import folder_of, loaded, loaded_processor
from diffaccel.plugins.metrics.base import Compute, Images, Metric, with_references


class Dino(Metric):
    """Cosine of the two images' class tokens, after the last norm, of DINOv2 in transformers."""

    name = "dino"
    better = "higher"
    scale = "-1 to 1; 1 is the same features"
    needs_reference = True
    paper = "Oquab et al., 2023, arXiv:2304.07193"
    needs_source = True
    source = "facebook/dinov2-small"

    def prepare(self, source: str, device: str) -> Compute:
        import torch
        from transformers import AutoImageProcessor, AutoModel

        folder = folder_of("dino", source)
        model = loaded("dino", AutoModel, folder, device)
        processor = loaded_processor("dino", AutoImageProcessor, folder)

        def features(images: Images) -> torch.Tensor:
            pixels = processor(images=list(images), return_tensors="pt")["pixel_values"].to(device)
            # One image a call: what comes out then depends on no other.
            found = [model(pixel_values=each[None]).last_hidden_state[0, 0] for each in pixels]
            return torch.stack(found)

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            first, second = features(images), features(with_references("dino", references))
            return [float(each) for each in torch.nn.functional.cosine_similarity(first, second)]

        return compute


PLUGIN = Dino()
