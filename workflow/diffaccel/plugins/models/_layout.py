"""What a local source tells of its layout before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffaccel.plugins import sources
from diffaccel.plugins.models._weights import ModelError, read_header, read_json


@dataclass(frozen=True)
class Layout:
    """What tells families apart.

    Args:
        pipeline_class: diffusers' class name.
        context: width of the text that the U-Net attends to.
        prediction: ``epsilon`` or ``v_prediction``.
        image_size: in pixels that it is made for, where that is known.
    """

    pipeline_class: str
    context: int
    prediction: str
    image_size: int | None

    @property
    def second_generation(self) -> bool:
        """Whether it is SD2's rather than SD1's: OpenCLIP's text width, or v-prediction."""
        return self.context == 1024 or self.prediction == "v_prediction"


def layout_of(source: str) -> Layout | None:
    """The layout of a pipeline in a local folder or single file; None where it cannot be told."""
    path = Path(source)
    try:
        if sources.is_single_file(source):
            return _of_names(read_header(path).names) if path.is_file() else None
        return _of_folder(path) if (path / "model_index.json").is_file() else None
    except ModelError:  # the job that checks the model says what is wrong
        return None


def _of_folder(folder: Path) -> Layout:
    def read(part: str) -> Any:
        return read_json(folder / part)

    unet, vae = read("unet/config.json"), read("vae/config.json")
    scale = 2 ** (len(vae.get("block_out_channels", [0])) - 1)
    size = unet.get("sample_size")
    return Layout(
        pipeline_class=str(read("model_index.json").get("_class_name")),
        context=int(unet.get("cross_attention_dim") or 0),
        prediction=read("scheduler/scheduler_config.json").get("prediction_type", "epsilon"),
        image_size=size * scale if isinstance(size, int) else None,
    )


def _of_names(names: frozenset[str]) -> Layout:
    """From the names that the original code gave its tensors: the text encoders are OpenAI's CLIP,
    OpenCLIP's, or both. What is predicted they do not tell."""
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return Layout("StableDiffusionXLPipeline", 2048, "epsilon", None)
    open_clip = any(name.startswith("cond_stage_model.model.") for name in names)
    return Layout("StableDiffusionPipeline", 1024 if open_clip else 768, "epsilon", None)
