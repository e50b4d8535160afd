"""What a single file holds, told by the names and shapes of its tensors; and what to do with one
that is no whole model.

The names are those that the original code gives them, and the commonest other ones: see the public
``diffusers/loaders/single_file_utils.py`` (``CHECKPOINT_KEY_NAMES``, diffusers 0.42.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from diffaccel.plugins.models._weights import Header

WHOLE = "Give the whole model as `source`"
ONLY = "Only text-to-image models of SD1.5's, SD2.1's and SDXL's architectures can be measured"
MERGED = (
    "It cannot be loaded beside a model: only LoRAs can. Merge it into the model, and give that as "
    "`source`"
)
INPUTS = {
    5: "a depth map",
    7: "a small image, to upscale",
    8: "an image, to edit (InstructPix2Pix)",
    9: "an image and a mask (inpainting)",
}
"""What U-Nets of so many input channels take beside latents of four."""
TASKS = {9: "To inpaint with it, give it as a folder, with `task: inpainting` and `inputs`"}
"""What to do about these."""
OTHER_ADDITIONS = re.compile(r"(^|[._])(hada_w|lokr_w|oft_)")
"""What the names of tensors have that are added to a model and are no LoRA."""
PARTS = {
    "U-Net": ("model.diffusion_model.",),
    "VAE": ("first_stage_model.",),
    "text encoder": ("cond_stage_model.", "conditioner.embedders."),
}
"""Parts of a whole model, and what the names of their tensors begin with."""
ALONE = {
    "U-Net": ("input_blocks.", "down_blocks.", "unet."),
    "VAE": ("encoder.conv_in.", "encoder.down", "decoder.", "quant_conv.", "vae."),
    "text encoder": (
        "text_model.",
        "embeddings.token_embedding.",
        "transformer.resblocks.",
        "encoder.block.",
    ),
}
"""The same where a file holds nothing else."""
_FIRST = "model.diffusion_model.input_blocks.0.0.weight"
_LAST = "model.diffusion_model.out.2.weight"


@dataclass(frozen=True)
class Kind:
    """A kind of file that is no model here.

    Args:
        what: it is.
        advice: what to do.
        names: matches a name that only such a file has.
    """

    what: str
    advice: str
    names: re.Pattern[str]


KINDS = (
    Kind(
        "a ControlNet, which guides a model and is none itself",
        "Give the model as `source`, with `task: controlnet`, and the ControlNet's folder or hub "
        "id as `controlnet`",
        re.compile(r"^control_model\.|^controlnet_|^lora_controlnet$|^control_all_x_embedder"),
    ),
    Kind("a LoHa, LoKr or OFT file, not a model", MERGED, OTHER_ADDITIONS),
    Kind("a DoRA, not a model", MERGED, re.compile(r"\.dora_scale$")),
    Kind(
        "a LoRA, not a model",
        "Give the model as `source`, and name this file under the model's `lora`, as in "
        "`lora: [{source: FILE, weight: 0.8}]`",
        re.compile(r"lora"),
    ),
    Kind(
        "an IP-Adapter, which needs an image beside the text",
        ONLY,
        re.compile(r"^(ip_adapter|image_proj)\."),
    ),
    Kind("motion modules of AnimateDiff", ONLY, re.compile(r"(^|\.)motion_modules\.")),
    Kind("a model of SD3's architecture", ONLY, re.compile(r"(^|\.)joint_blocks\.\d")),
    Kind(
        "a model of FLUX's architecture",
        ONLY,
        re.compile(r"(^|\.)(double_blocks|single_blocks|single_transformer_blocks)\.\d"),
    ),
    Kind(
        "Playground v2.5 or of its kind: sampled by EDM schedulers alone",
        "Only models whose noise is that of SD1.5, SD2.1 and SDXL can be measured",
        re.compile(r"^edm_mean$|^edm_vpred\."),
    ),
    Kind(
        "the refiner of SDXL, which needs an image beside the text",
        "Give the base model",
        re.compile(r"^conditioner\.embedders\.0\.model\."),
    ),
    Kind(
        "a Stable Cascade model",
        ONLY,
        re.compile(r"^clip_txt_mapper\.|^down_blocks\.\d+\.\d+\.channelwise\."),
    ),
)
"""In this order: the first that has a tensor of the file."""


def problem(header: Header, *, vae_given: bool) -> str | None:
    """Why a single file cannot be loaded as a model, and what to do; None where it can.

    Args:
        vae_given: whether the model's VAE comes from elsewhere.
    """
    for kind in KINDS:
        if any(map(kind.names.search, header.names)):
            return f"is {kind.what}. {kind.advice}"
    if _embeds(header):
        return (
            "is a textual inversion, not a model. Give the model as `source`, and name this file "
            "under the model's `textual_inversion`, as in `textual_inversion: [{source: FILE, "
            "token: <word>}]`"
        )
    return _incomplete(header, vae_given) or _other_inputs(header)


def inputs_problem(taken: int, given: int) -> str | None:
    """Why a U-Net cannot be called with text and latents alone, by its channels, or None.

    Args:
        taken: channels of its input.
        given: channels of its output.
    """
    if taken == given:
        return None
    what = INPUTS.get(taken, "something else") if given == 4 else "something else"
    return (
        f"has a U-Net that takes {taken} channels and gives {given}: it needs {what} beside text "
        f"and latents. {TASKS.get(taken, ONLY)}"
    )


def _embeds(header: Header) -> bool:
    """Whether it is vectors of new words: one or two matrices as wide as a text encoder."""
    known = header.names <= {"emb_params", "clip_l", "clip_g"}
    matrices = all(len(shape) <= 2 and shape[-1:] >= (768,) for shape in header.shapes.values())
    return 0 < len(header.names) <= 2 and (known or matrices)


def _incomplete(header: Header, vae_given: bool) -> str | None:
    found = _having(header, PARTS)
    missing = [part for part in PARTS if part not in found and not (part == "VAE" and vae_given)]
    if not missing:
        return _half_of_sdxl(header)
    alone = found or _having(header, ALONE)
    if not alone:
        first = ", ".join(sorted(header.names)[:3]) or "none"
        return f"is not a complete model: no tensor has a known name (first: {first}). {WHOLE}"
    if len(alone) == 1:
        hint = "; a VAE goes under `vae`, in a folder" if alone == ["VAE"] else ""
        return f"is {_article(alone[0])} alone. {WHOLE}{hint}"
    hint = ", or name a VAE under `vae`" if missing == ["VAE"] else ""
    return f"has no {' and no '.join(missing)}. {WHOLE}{hint}"


def _having(header: Header, parts: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        part
        for part, prefixes in parts.items()
        if any(name.startswith(prefixes) for name in header.names)
    ]


def _article(part: str) -> str:
    return f"a{'n' if part[0] in 'aeio' else ''} {part}"


def _half_of_sdxl(header: Header) -> str | None:
    def has(number: int) -> bool:
        return any(name.startswith(f"conditioner.embedders.{number}.") for name in header.names)

    if has(0) == has(1):
        return None
    return f"has one of SDXL's two text encoders. {WHOLE}"


def _other_inputs(header: Header) -> str | None:
    first, last = header.shapes.get(_FIRST), header.shapes.get(_LAST)
    if first and last and (reason := inputs_problem(first[1], last[0])) is not None:
        return reason
    labelled = any(name.startswith("model.diffusion_model.label_emb.") for name in header.names)
    if labelled and not any(name.startswith("conditioner.") for name in header.names):
        return f"has a U-Net that needs labels or an image beside the text. {ONLY}"
    return None
