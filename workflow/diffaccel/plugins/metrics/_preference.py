"""What CLIP models that were trained on people's choices have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffaccel.plugins.metrics._weights import folder_of, loaded, loaded_processor
from diffaccel.plugins.metrics.base import Compute, Images, Metric

TOKENIZERS = ("tokenizer.json", "vocab.json")


class _Preference(Metric):
    """Cosine of image and caption under such a model, times what a subclass says."""

    needs_reference = False
    needs_source = True

    def scaled(self, cosine: float, model: Any) -> float:
        """The value of an image, as its authors give it."""
        raise NotImplementedError

    def prepare(self, source: str, device: str) -> Compute:
        import torch
        from transformers import CLIPModel, CLIPProcessor

        from diffaccel.plugins.models import ModelError

        folder = folder_of(self.name, source)
        # Without one, an empty one is made up, and every text is the same.
        if not any((folder / name).is_file() for name in TOKENIZERS):
            raise ModelError(
                f"metric {self.name!r}: {folder} has no tokenizer: {' or '.join(TOKENIZERS)}"
            )
        model = loaded(self.name, CLIPModel, folder, device)
        processor = loaded_processor(self.name, CLIPProcessor, folder)
        limit = int(model.config.text_config.max_position_embeddings)

        def cosine(image: Any, prompt: str) -> float:
            inputs = processor(
                text=[prompt],
                images=[image],
                return_tensors="pt",
                truncation=True,
                max_length=limit,
            ).to(device)
            found = model(**inputs)  # whose embeddings have length 1
            return float((found.image_embeds * found.text_embeds).sum())

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            pairs = zip(images, prompts, strict=True)
            return [self.scaled(cosine(image, prompt), model) for image, prompt in pairs]

        return compute
