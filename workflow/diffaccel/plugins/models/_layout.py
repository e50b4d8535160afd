"""What a local source tells of its layout before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffaccel.plugins import sources
from diffaccel.plugins.models._weights import ModelError, read_header, read_json
from diffaccel.plugins.sizes import height_and_width

V_PREDICTION = "v_prediction"
"""diffusers' name of it."""


@dataclass(frozen=True)
class Layout:
    """What tells families apart, and how a model is to be sampled.

    Args:
        pipeline_class: diffusers' class name.
        context: width of the text that the U-Net attends to.
        prediction: ``epsilon`` or ``v_prediction``.
        image_size: height and width in pixels that it is made for, where they are known.
        zero_snr: whether it is trained down to noise alone (Lin et al., 2023, arXiv:2305.08891), so
            that a scheduler must rescale its betas.
    """

    pipeline_class: str
    context: int
    prediction: str
    image_size: tuple[int, int] | None
    zero_snr: bool = False

    @property
    def second_generation(self) -> bool:
        """Whether it is SD2's rather than SD1's: OpenCLIP's text width; of one that has neither's,
        v-prediction."""
        return self.context == 1024 or (self.context != 768 and self.prediction == V_PREDICTION)


def layout_of(source: str) -> Layout | None:
    """The layout of a pipeline in a local folder or single file; None where it cannot be told.

    It is a guess where something is missing or where the file is no whole model: `Family.check`
    says what is wrong.
    """
    path = Path(source)
    try:
        if sources.is_single_file(source):
            return layout_of_names(read_header(path).names) if path.is_file() else None
        return _of_folder(path) if (path / "model_index.json").is_file() else None
    except ModelError:  # the job that checks the model says what is wrong
        return None


def sampling_told(source: str) -> dict[str, Any]:
    """What a single file says of how it is to be sampled, as arguments of a scheduler: to be put
    over those of the configuration that it is loaded with. Empty where it says nothing.

    Single files of SDXL with v-prediction (NoobAI-XL's, for one) have an empty tensor ``v_pred``,
    and ``ztsnr`` where they need rescaled betas. ComfyUI reads these names
    (``comfy/supported_models.py``). diffusers does not: ``from_single_file`` of 0.42.1 names
    neither in ``loaders/single_file_utils.py``, converts each network from the tensors that it
    knows, and takes the scheduler from the folder ``scheduler`` of its ``config``, for SDXL one
    that predicts epsilon. A scheduler that is passed to it as ``scheduler=`` is used as it is.

    Args:
        source: as in `ModelSpec`. A folder has a scheduler of its own, which says it all.

    Raises:
        ModelError: the file is not safetensors, or not whole.
    """
    if not sources.is_single_file(source):
        return {}
    layout = layout_of_names(read_header(Path(source)).names)
    if layout.prediction != V_PREDICTION:
        return {}
    rescaled = {"rescale_betas_zero_snr": True} if layout.zero_snr else {}
    return {"prediction_type": V_PREDICTION, **rescaled}


def _of_folder(folder: Path) -> Layout:
    def read(part: str) -> Mapping[str, Any]:
        path = folder / part
        return read_json(path) if path.is_file() else {}

    unet, vae = read("unet/config.json"), read("vae/config.json")
    scheduler = read("scheduler/scheduler_config.json")
    blocks, sides = vae.get("block_out_channels"), height_and_width(unet.get("sample_size"))
    return Layout(
        pipeline_class=str(read("model_index.json").get("_class_name")),
        context=text_width(unet),
        prediction=scheduler.get("prediction_type", "epsilon"),
        image_size=_pixels(sides, len(blocks)) if sides is not None and blocks else None,
        zero_snr=bool(scheduler.get("rescale_betas_zero_snr", False)),
    )


def text_width(unet: Mapping[str, Any]) -> int:
    """Width of the text that a U-Net of this configuration attends to; 0 where it has none. It may
    be one for each block: all of them are the text encoder's."""
    width = unet.get("cross_attention_dim") or 0
    return int(width) if isinstance(width, int) else max(map(int, width))


def _pixels(sides: tuple[int, int], levels: int) -> tuple[int, int]:
    """Height and width of the images that a VAE of so many levels makes of latents."""
    height, width = (side * 2 ** (levels - 1) for side in sides)
    return height, width


def layout_of_names(names: frozenset[str]) -> Layout:
    """From the names that the original code gave its tensors: the text encoders are OpenAI's CLIP,
    OpenCLIP's, or both. What SD2.1 predicts they do not tell."""
    prediction = V_PREDICTION if "v_pred" in names else "epsilon"
    zero_snr = prediction == V_PREDICTION and "ztsnr" in names
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return Layout("StableDiffusionXLPipeline", 2048, prediction, None, zero_snr)
    open_clip = any(name.startswith("cond_stage_model.model.") for name in names)
    width = 1024 if open_clip else 768
    return Layout("StableDiffusionPipeline", width, prediction, None, zero_snr)
