"""Whether a folder has all that a pipeline of a family is loaded from, and whether its U-Net can be
called with text and latents alone. No weights are looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from diffaccel.plugins.models._kinds import ONLY, inputs_problem
from diffaccel.plugins.models._weights import ModelError, read_json
from diffaccel.plugins.pipeline_tasks import task_of, text_to_image
from diffaccel.plugins.schedulers import other_noise

INDEX = "model_index.json"
UNET = "UNet2DConditionModel"
LORAS = ("adapter_config.json", "pytorch_lora_weights.safetensors")
"""What lies in a folder that a LoRA was saved to."""
EITHER = {"tokenizer": ("tokenizer.json", "vocab.json"), "scheduler": ("scheduler_config.json",)}
"""Files of which a part needs one; any other part has a ``config.json``."""
PLAIN = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    # The text's projection takes nothing but the text.
    "encoder_hid_dim_type": (None, "text_proj"),
}
"""What a U-Net's configuration may say of inputs beside text and latents."""


def check_index(folder: Path, family: str, pipeline_class: str, task: str | None = None) -> None:
    """Whether it is a pipeline of this class; for a task, or one of the same parts.

    Args:
        pipeline_class: of text-to-image.
        task: what it is used for; None: text-to-image.

    Raises:
        ModelError: it is not.
    """
    index = folder / INDEX
    if not index.is_file():
        if any((folder / name).is_file() for name in LORAS):
            raise ModelError(
                f"{folder} holds a LoRA, not a model. Give the model "
                "as `source`, and name this folder under the model's `lora`"
            )
        raise ModelError(
            f"{folder} is not a folder in diffusers' format (it has no {INDEX}). Save one "
            "with pipeline.save_pretrained(folder)"
        )
    content = read_json(index)
    kind = content.get("_class_name")
    if kind != pipeline_class and (task is None or text_to_image(str(kind)) != pipeline_class):
        own = task_of(str(kind))
        hint = f". If it is for {own.name}, set `task: {own.name}` of the model" if own else ""
        raise ModelError(
            f"{index} is a {kind}, but the family {family!r} needs a {pipeline_class}: correct "
            f"`family` or `source`{hint}"
        )
    _, scheduler = content.get("scheduler") or (None, None)
    if scheduler is not None and (reason := other_noise({"_class_name": scheduler})):
        raise ModelError(f"{index}: {reason}")


def check_parts(
    folder: Path,
    parts: Collection[str],
    like: Mapping[str, Any],
    vae: Path | None,
    channels: Collection[int] = (),
) -> None:
    """Whether all parts of a pipeline are there, each with its configuration, and go together.

    Args:
        folder: which `check_index` has passed.
        parts: names of all parts that are loaded from it.
        like: configuration of the family's U-Net, where it is not diffusers' default.
        vae: folder of the VAE, where it is on this machine.
        channels: that the U-Net may take besides as many as it gives.

    Raises:
        ModelError: a part is missing, or the U-Net is another network or needs further inputs.
    """
    index = read_json(folder / INDEX)
    for part in parts:
        listed = index.get(part)
        if not isinstance(listed, list) or None in listed:
            raise _missing(f"{folder / INDEX} lists no {part}", parts)
        files = EITHER.get(part.removesuffix("_2"), ("config.json",))
        if not any((folder / part / name).is_file() for name in files):
            raise _missing(f"{folder} has no {part}/{' or '.join(files)}", parts)
    if (kind := index["unet"][1]) != UNET:
        raise ModelError(f"{folder / INDEX}: unet is a {kind}; only a {UNET} can be measured")
    unet = read_json(folder / "unet/config.json")
    _check_inputs(folder, unet, like, channels)
    latent = 4 if vae is None else read_json(vae / "config.json").get("latent_channels", 4)
    if vae is not None and latent != (taken := unet.get("out_channels", 4)):
        raise ModelError(
            f"{folder}: its U-Net takes latents of {taken} channels, and the VAE in {vae} has "
            f"{latent}: take the VAE of the model that the U-Net belongs to"
        )


def _missing(what: str, parts: Collection[str]) -> ModelError:
    return ModelError(
        f"{what}: a pipeline needs {', '.join(parts)}. Save the whole one with "
        "pipeline.save_pretrained(folder), or take the part from the model that it was made from"
    )


def _check_inputs(
    folder: Path, unet: Mapping[str, Any], like: Mapping[str, Any], channels: Collection[int]
) -> None:
    taken, given = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if taken not in channels and (reason := inputs_problem(taken, given)) is not None:
        raise ModelError(f"{folder} {reason}")
    allowed = PLAIN | {"addition_embed_type": (like.get("addition_embed_type"),)}
    for key, values in allowed.items():
        if (value := unet.get(key)) not in values:
            raise ModelError(
                f"{folder / 'unet/config.json'}: {key} is {value!r}, so the U-Net needs other "
                f"inputs than its family's; allowed is {' or '.join(map(repr, values))}. {ONLY}"
            )
