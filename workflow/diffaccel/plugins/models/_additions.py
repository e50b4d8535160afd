"""What is loaded on top of a pipeline, LoRAs and textual inversions: which file it is, whether it
fits the model, and loading it as diffusers documents it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diffaccel.plugins import sources
from diffaccel.plugins.models import _hub
from diffaccel.plugins.models._kinds import OTHER_ADDITIONS
from diffaccel.plugins.models._parts import header_of
from diffaccel.plugins.models._spec import Addition, Lora, TextualInversion
from diffaccel.plugins.models._weights import (
    PICKLES,
    Header,
    ModelError,
    naming,
    read_header,
    read_json,
)

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

A = TypeVar("A", Lora, TextualInversion)
USUAL = {Lora: "pytorch_lora_weights.safetensors", TextualInversion: "learned_embeds.safetensors"}
"""Names that diffusers gives to such files."""
SIDES = ("clip_l", "clip_g")
"""Names of SDXL's two text encoders in a textual inversion's file, in order."""

_DOWN = re.compile(r"(?:lora_A|lora_down|lora\.down|lora_linear_layer\.down)(?:\.\w+)?\.weight$")
_PARTS = {
    "unet": re.compile(r"(?:unet\.|lora_unet_)"),
    "text_encoder_2": re.compile(r"(?:text_encoder_2\.|lora_te2_)"),
    "text_encoder": re.compile(r"(?:text_encoder\.|lora_te1?_)"),
}
"""How names of tensors begin that change a part: diffusers' names, and those of kohya-ss."""
_READS_TEXT = {
    "unet": re.compile(r"attn2[._](?:processor\.)?to_[kv]"),
    "text_encoder": re.compile(r"self_attn[._](?:[qkv]_proj|to_[qkv])"),
}
"""Layers whose input is as wide as the text, or as the text encoder."""


@dataclass(frozen=True)
class Fitting:
    """What additions of a model must fit.

    Args:
        family: its name.
        text_encoders: the parts that it has of them.
        widths: of the text that the U-Net attends to, and of each text encoder, where known.
        layers: of each text encoder, where known.
        known: families by the width of their text, for messages.
    """

    family: str
    text_encoders: tuple[str, ...]
    widths: Mapping[str, int]
    layers: Mapping[str, int]
    known: Mapping[int, str]

    @classmethod
    def of(
        cls, family: str, text_encoders: tuple[str, ...], folder: Path, known: Mapping[int, str]
    ) -> Fitting:
        """Read from the configurations in a pipeline's folder."""
        parts = [part for part in ("unet", *text_encoders) if (folder / part).is_dir()]
        configs = {part: read_json(folder / part / "config.json") for part in parts}
        wide = {"unet": "cross_attention_dim"}
        widths = {part: read.get(wide.get(part, "hidden_size")) for part, read in configs.items()}
        layers = {part: read.get("num_hidden_layers") for part, read in configs.items()}
        return cls(family, text_encoders, _numbers(widths), _numbers(layers), known)

    def check(self, addition: Addition, path: Path) -> None:
        """Raises ModelError where a file is not what it is to be, or is for another model."""
        header = read_header(path)
        if isinstance(addition, Lora):
            self._check_lora(path, header)
        else:
            self._check_inversion(path, header)

    def _check_lora(self, path: Path, header: Header) -> None:
        down = {name: shape for name, shape in header.shapes.items() if _DOWN.search(name)}
        if not down:
            raise ModelError(f"{path} {_no_lora(header)}")
        if scaled := [name for name in header.shapes if "dora_scale" in name]:
            raise ModelError(
                f"{path} is a DoRA ({scaled[0]}). diffusers ignores its scales, so its images "
                "would be wrong. Use a LoRA, or merge it into the model, and give that as `source`"
            )
        for part, starts in _PARTS.items():
            names = [name for name in down if starts.match(name)]
            if names and part not in ("unet", *self.text_encoders):
                raise ModelError(
                    f"{path} was made for SDXL: it changes a second text encoder ({names[0]}), and "
                    f"{self.family} has only one"
                )
            reads = _READS_TEXT[part.removesuffix("_2")]
            found = {down[name][1] for name in names if reads.search(name)}
            self._check_width(path, part, found)

    def _check_width(self, path: Path, part: str, found: Collection[int]) -> None:
        wanted = self.widths.get(part)
        for width in found:
            if wanted is None or width == wanted:
                continue
            if part == "unet":
                other = self.known.get(width, "another model")
                raise ModelError(
                    f"{path} was made for {other} (cross-attention width {width}); this model is "
                    f"{self.family} (width {wanted})"
                )
            raise ModelError(
                f"{path} was made for a {part} of width {width}; this model is {self.family} "
                f"(width {wanted})"
            )

    def _check_inversion(self, path: Path, header: Header) -> None:
        several = len(self.text_encoders) > 1
        if several and not set(SIDES) <= header.names:
            raise ModelError(
                f"{path} is for one text encoder: for {self.family} it must hold {SIDES[0]!r} and "
                f"{SIDES[1]!r}, {_example(header)}"
            )
        if not several and len(header.shapes) != 1:
            raise ModelError(
                f"{path} holds {len(header.shapes)} tensors, {_example(header)}; a textual "
                f"inversion for {self.family} holds one"
            )
        named = SIDES if several else tuple(header.shapes)
        for part, name in zip(self.text_encoders, named, strict=True):
            self._check_width(path, part, header.shapes[name][-1:])

    def check_clip_skip(self, skipped: int) -> None:
        """Raises ModelError where that is all layers of a text encoder, or more."""
        # SDXL takes the layer before the last where none is skipped.
        own = 1 if len(self.text_encoders) > 1 else 0
        for part, count in self.layers.items():
            if skipped + own > count - 1:
                raise ModelError(
                    f"clip_skip {skipped}: the {part} has {count} layers, so it can be "
                    f"{count - 1 - own} at most"
                )


def _no_lora(header: Header) -> str:
    """What a file is that holds no LoRA."""
    other = next((name for name in sorted(header.shapes) if OTHER_ADDITIONS.search(name)), None)
    if other is not None:
        return f"is a LoHa, LoKr or OFT file ({other}). Only LoRAs can be loaded"
    return (
        f"is not a LoRA: none of its {len(header.shapes)} tensors has a LoRA's name, "
        f"{_example(header)}"
    )


def _numbers(found: Mapping[str, Any]) -> dict[str, int]:
    return {part: number for part, number in found.items() if isinstance(number, int)}


def _example(header: Header) -> str:
    return f"e.g. {min(header.shapes)!r}" if header.shapes else "it is empty"


def label(addition: Addition, model: str) -> str:
    """What an addition of a model is called in messages."""
    name = "lora" if isinstance(addition, Lora) else "textual_inversion"
    return f"model {model!r}: {name}"


def fetch(addition: A, model: str) -> tuple[A, Path]:
    """An addition named by its commit where it is on a hub, and by its file, which is then here.

    Args:
        model: its name, for messages.

    Raises:
        ModelError: it is missing, pickled, out of reach, or it is not clear which file is meant.
    """
    what, source, wanted = label(addition, model), addition.source, addition.weight_name
    if sources.is_single_file(source):
        with naming(what):
            header_of(Path(source))
        return addition, Path(source)
    local = sources.is_local(source)
    with naming(what):
        there = _in_folder(Path(source)) if local else [wanted] if wanted else None
    listed = _hub.listed(source, what) if there is None else there
    with naming(what):
        name = _chosen(listed, addition)
    if local:
        return replace(addition, weight_name=name), Path(source) / name
    found = _hub.find(source, name, what)
    return replace(addition, source=found.source, weight_name=name), found.folder / name


def _in_folder(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ModelError(f"there is no folder or file {folder}")
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _chosen(names: Collection[str], addition: Addition) -> str:
    """The file that is meant."""
    wanted, usual = addition.weight_name, USUAL[type(addition)]
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    top = [name for name in weights if "/" not in name]
    if wanted is not None:
        _refuse_pickle(wanted)
        if wanted not in names:
            listed = ", ".join(weights) or "no .safetensors file"
            raise ModelError(f"{addition.source} has no {wanted}; it has: {listed}")
        return wanted
    if usual in top or len(top) == 1:
        return usual if usual in top else top[0]
    if weights:
        raise ModelError(
            f"{addition.source} has several files of weights: {', '.join(weights)}; say which as "
            "weight_name"
        )
    for name in sorted(names):
        _refuse_pickle(name)
    raise ModelError(f"{addition.source} has no .safetensors file")


def _refuse_pickle(name: str) -> None:
    if name.endswith(PICKLES):
        raise ModelError(
            f"{name} is a pickle, which is not loaded since reading one can run any code; give a "
            ".safetensors file"
        )


# ---- loading -----------------------------------------------------------------------------------


def adapter(number: int) -> str:
    """What a model's LoRA is called on its pipeline, the first being number 1."""
    return f"lora_{number}"


def load_loras(
    pipe: DiffusionPipeline, loras: Sequence[Lora], paths: Sequence[Path], *, fused: bool
) -> None:
    """Loads LoRAs as the generated scripts do, all of them active; see
    `diffaccel.recipes.additions`.

    Source: https://huggingface.co/docs/diffusers/main/en/tutorials/using_peft_for_inference

    Args:
        paths: of their files, in the same order.
        fused: they are added to the weights.
    """
    names = [adapter(number) for number, _ in enumerate(loras, start=1)]
    for name, path in zip(names, paths, strict=True):
        pipe.load_lora_weights(str(path), adapter_name=name, use_safetensors=True)
    pipe.set_adapters(names, [lora.weight for lora in loras])
    if fused:
        pipe.fuse_lora(adapter_names=names)
        pipe.unload_lora_weights()


def mend_clip_skip(pipe: DiffusionPipeline) -> None:
    """Lets ``clip_skip`` work: diffusers looks for a text encoder's last norm where transformers
    had it before 5.6. An attribute, and no module, so that no weights are there twice.

    Source: https://github.com/huggingface/diffusers/issues/14124
    """
    if not hasattr(pipe.text_encoder, "text_model"):
        vars(pipe.text_encoder).setdefault("text_model", pipe.text_encoder)


def load_inversion(pipe: DiffusionPipeline, inversion: TextualInversion, path: Path) -> None:
    """Teaches a pipeline a word, as the generated scripts do.

    Source: https://huggingface.co/docs/diffusers/main/en/using-diffusers/textual_inversion_inference
    """
    if getattr(pipe, "text_encoder_2", None) is None:
        pipe.load_textual_inversion(str(path), token=inversion.token, use_safetensors=True)
        return
    from safetensors.torch import load_file

    embeddings = load_file(path)
    encoders = ((pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2))
    for side, (encoder, tokenizer) in zip(SIDES, encoders, strict=True):
        pipe.load_textual_inversion(
            embeddings[side], token=inversion.token, text_encoder=encoder, tokenizer=tokenizer
        )
