"""CLIP score: how well an image fits its prompt (Hessel et al., 2021, arXiv:2104.08718)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaccel.plugins.metrics._tensors import byte_tensor
from diffaccel.plugins.metrics.base import Compute, Images, Metric

if TYPE_CHECKING:
    import torch

_TOKENIZERS = ("tokenizer.json", "vocab.json")


class ClipScore(Metric):
    """100 times the cosine of image and text embedding, at least 0; torchmetrics' ``CLIPScore``.

    A caption that is longer than the scorer takes is cut so that its end token stays: the scorer
    reads the text there, and torchmetrics alone cuts that off, too.

    An image that is not square is resized to a square, its shapes squeezed: CLIP's processor alone
    takes the middle, and never sees the rest. Padding would show a smaller image in a frame, and a
    tile lacks a part of what the caption tells of: both told images of 2:3 apart no better, padding
    far less well (docs/experiments/log.md).
    """

    name = "clip_score"
    better = "higher"
    scale = "0 to 100"
    needs_reference = False
    paper = "Hessel et al., 2021, arXiv:2104.08718"
    usual = True

    def prepare(self, source: str, device: str) -> Compute:
        import torch
        from torchmetrics.multimodal import CLIPScore

        # torchmetrics knows a few hub names; through a function it takes any folder or hub id.
        metric = CLIPScore(model_name_or_path=lambda: load_clip(source)).to(device)

        def score(image: torch.Tensor, prompt: str) -> float:
            # The metric gives the mean over its updates, and we keep each image's own.
            metric.reset()
            metric.update(image, prompt)
            return float(metric.compute())

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            tensors = byte_tensor(images, device)
            return [score(image, prompt) for image, prompt in zip(tensors, prompts, strict=True)]

        return compute

    def adaptation(self, scorer: str, height: int, width: int, prompts: Sequence[str]) -> str:
        from transformers import CLIPConfig, CLIPProcessor

        folder = _folder(scorer)
        processor, config = (kind.from_pretrained(folder) for kind in (CLIPProcessor, CLIPConfig))
        done, limit = [], _limit(config)
        if height != width and _side(processor):
            done.append("images resized to a square")
        tokens = processor.tokenizer(list(prompts), verbose=False).input_ids
        if any(len(each) > limit for each in tokens):
            done.append(f"captions cut to {limit} tokens with the end token")
        return "; ".join(done)


def _whole(processor: Any, limit: int) -> Callable[..., Any]:
    """A processor that takes all of an image, and of a caption so many tokens."""
    side = _side(processor)
    images = {"size": {"height": side, "width": side}} if side else {}
    text = {"truncation": True, "max_length": limit}
    return partial(processor, images_kwargs=images, text_kwargs=text)


def _side(processor: Any) -> int | None:
    """Pixels that a CLIP processor makes of an image's shorter side, before it takes the middle;
    None where it resizes the image as a whole."""
    side = dict(processor.image_processor.size).get("shortest_edge")
    return None if side is None else int(side)


def _limit(config: Any) -> int:
    """How many tokens of a caption a CLIP model takes, with those for its start and end."""
    return int(config.text_config.max_position_embeddings)


def _folder(source: str, what: str = "scorer") -> Path:
    """Where a CLIP model lies.

    Raises:
        ModelError: it is out of reach or has no tokenizer.
    """
    from diffaccel.plugins.models import ModelError
    from diffaccel.plugins.models._parts import fetch_network

    _, folder = fetch_network(source, what)
    # Without one, an empty one is made up, and every text is the same.
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelError(f"{what}: {folder} has no tokenizer: {' or '.join(_TOKENIZERS)}")
    return folder


def load_clip(source: str, what: str = "scorer") -> tuple[Any, Any]:
    """A CLIP model, in single precision (half is for storage), and what prepares its inputs.

    Since transformers 5 the two feature functions give an output object, of which torchmetrics 1.9
    expects the tensor.

    Args:
        what: it is for, for messages.

    Raises:
        ModelError: it is out of reach, has no tokenizer, or cannot be loaded.
    """
    import torch
    from transformers import CLIPModel, CLIPProcessor

    from diffaccel.plugins.models import ModelError

    folder = _folder(source, what)

    class Features(CLIPModel):
        def get_image_features(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return _tensor(super().get_image_features(*args, **kwargs))

        def get_text_features(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return _tensor(super().get_text_features(*args, **kwargs))

    try:
        model = Features.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        return model.eval(), _whole(CLIPProcessor.from_pretrained(folder), _limit(model.config))
    except Exception as error:  # of several libraries, each with its own
        raise ModelError(
            f"{what}: {folder} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _tensor(output: Any) -> Any:
    return getattr(output, "pooler_output", output)


PLUGIN = ClipScore()
