"""CLIP score: how well an image fits its prompt (Hessel et al., 2021, arXiv:2104.08718)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffaccel.plugins.metrics.base import Compute, Images, Metric

_TOKENIZERS = ("tokenizer.json", "vocab.json")


class ClipScore(Metric):
    """100 times the cosine of image and text embedding, at least 0; torchmetrics' ``CLIPScore``."""

    name = "clip_score"
    needs_reference = False

    def prepare(self, scorer: str, device: str) -> Compute:
        import torch
        from torchmetrics.multimodal import CLIPScore

        # torchmetrics knows a few hub names; through a function it takes any folder or hub id.
        metric = CLIPScore(model_name_or_path=lambda: _load(scorer)).to(device)

        def score(image: torch.Tensor, prompt: str) -> float:
            # The metric gives the mean over its updates, and we keep each image's own.
            metric.reset()
            metric.update(image, prompt)
            return float(metric.compute())

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            tensors = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
            return [score(image, prompt) for image, prompt in zip(tensors, prompts, strict=True)]

        return compute


def _load(scorer: str) -> tuple[Any, Any]:
    """The CLIP model, in single precision (half is for storage), and its processor.

    Since transformers 5 the two feature functions give an output object, of which torchmetrics 1.9
    expects the tensor.
    """
    import torch
    from transformers import CLIPModel, CLIPProcessor

    from diffaccel.plugins.models import ModelError, fetch_scorer

    folder = fetch_scorer(scorer)
    # Without one, an empty one is made up, and every text is the same.
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelError(f"scorer: {folder} has no tokenizer: {' or '.join(_TOKENIZERS)}")

    class Features(CLIPModel):
        def get_image_features(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return _tensor(super().get_image_features(*args, **kwargs))

        def get_text_features(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return _tensor(super().get_text_features(*args, **kwargs))

    try:
        model = Features.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        return model.eval(), CLIPProcessor.from_pretrained(folder)
    except Exception as error:  # of several libraries, each with its own
        raise ModelError(
            f"scorer: {folder} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _tensor(output: Any) -> Any:
    return getattr(output, "pooler_output", output)


PLUGIN = ClipScore()
