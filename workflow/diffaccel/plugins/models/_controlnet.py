"""A ControlNet beside a model: whether it fits, and loading it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffaccel.plugins.models._layout import text_width
from diffaccel.plugins.models._weights import ModelError, read_header, read_json, weight_files

KIND = "ControlNetModel"
LATENTS = 4
ALIKE = {"block_out_channels": None, "layers_per_block": 2}
"""What else must be the same in both configurations, as the ControlNet's outputs are added to the
U-Net's; each with diffusers' default."""


def check_controlnet(folder: Path, unet: Mapping[str, Any], where: Path) -> None:
    """Whether a ControlNet's outputs fit a U-Net.

    Args:
        folder: of the ControlNet, as ``save_pretrained`` writes it.
        unet: the U-Net's ``config.json``.
        where: that lies, for the message.

    Raises:
        ModelError: it is something else, or is made for another U-Net.
    """
    own = read_json(folder / "config.json")
    if (kind := own.get("_class_name")) != KIND:
        raise ModelError(f"{folder} holds a {kind}; `controlnet` takes a {KIND}")
    both = {"cross_attention_dim (the width of the text)": (text_width(own), text_width(unet))}
    # The latents alone: a U-Net for inpainting takes a mask and an image besides.
    both["in_channels"] = (own.get("in_channels", LATENTS), unet.get("out_channels", LATENTS))
    both |= {name: (own.get(name, usual), unet.get(name, usual)) for name, usual in ALIKE.items()}
    for name, (its, wanted) in both.items():
        if its != wanted:
            raise ModelError(
                f"{folder} does not fit the U-Net in {where}: {name} is {its!r}, and the U-Net's "
                f"is {wanted!r}. Take a ControlNet that was trained for this model's family"
            )


def network_parameters(folder: Path) -> int:
    """Numbers in the weights of a network in a folder."""
    names = [path.name for path in folder.iterdir()]
    return sum(read_header(folder / name).parameters for name in weight_files(names, "", None))


def load(folder: Path, dtype: Any) -> Any:
    """The ControlNet, as scripts load it."""
    from diffusers import ControlNetModel

    return ControlNetModel.from_pretrained(folder, dtype=dtype, use_safetensors=True)
