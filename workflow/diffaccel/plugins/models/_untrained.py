"""Full-size pipelines without weights, built from published sizes: they generate noise, but take
the time that the trained ones take."""

from __future__ import annotations

import contextlib
import importlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_SEED = 0


@dataclass(frozen=True)
class Sizes:
    """The published sizes of a family.

    Args:
        unet: arguments of diffusers' ``UNet2DConditionModel`` where they are not its defaults.
        vae: arguments of ``AutoencoderKL`` beyond those that all families share.
        text_encoders: arguments of transformers' ``CLIPTextConfig`` beyond the shared ones, one an
            encoder; the second has a projection on top.
        parameters: numbers in the weights of all networks.
        prediction: what the U-Net predicts, ``epsilon`` or ``v_prediction``.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoders: tuple[Mapping[str, Any], ...]
    parameters: int
    prediction: str = "epsilon"

    @property
    def unet_config(self) -> dict[str, Any]:
        """As ``unet/config.json`` has it, as far as anything here reads it."""
        return {**_UNET, **self.unet}

    @property
    def vae_config(self) -> dict[str, Any]:
        """The same of ``vae/config.json``."""
        return {**_VAE, **self.vae}


TOKENS = 77
"""Longest prompt of every CLIP text encoder, in tokens."""
_TEXT: Mapping[str, Any] = {"vocab_size": 49408, "max_position_embeddings": TOKENS}
_UNET: Mapping[str, Any] = {
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "layers_per_block": 2,
}
"""Defaults of diffusers' ``UNet2DConditionModel``."""
_VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
CLIP_L: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
"""The text encoder of OpenAI's CLIP ViT-L/14."""


def build(sizes: Sizes, dtype: str, device: str) -> DiffusionPipeline:
    """A pipeline of these sizes with random weights, made where and as they are wanted: on a GPU
    that takes seconds even for billions of them.

    Args:
        dtype: torch's name of it.
        device: torch's name of it; ``meta`` has sizes and no weights at all.
    """
    import torch
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    with _making(getattr(torch, dtype), device):
        parts = _parts(sizes)
    tokenizer = byte_tokenizer(TOKENS)
    if len(sizes.text_encoders) > 1:
        pipe = StableDiffusionXLPipeline(tokenizer=tokenizer, tokenizer_2=tokenizer, **parts)
    else:
        pipe = StableDiffusionPipeline(
            tokenizer=tokenizer,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **parts,
        )
    return pipe


def build_like(
    folder: Path, pipeline_class: str, arguments: Mapping[str, Any], dtype: str, device: str
) -> DiffusionPipeline:
    """A pipeline of the sizes of one in a folder, whose weights are not read and need not be there.

    Args:
        arguments: of the pipeline class's ``from_pretrained``.
    """
    import diffusers
    import torch

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    with _making(getattr(torch, dtype), device):
        parts = {
            name: _part(folder / name, *index[name])
            for name in index
            if name not in arguments and (folder / name / "config.json").is_file()
        }
    for part in parts.values():
        part.to(dtype=getattr(torch, dtype)).eval()
    return getattr(diffusers, pipeline_class).from_pretrained(folder, **parts, **arguments)


def _part(folder: Path, library: str, name: str) -> Any:
    kind = getattr(importlib.import_module(library), name)
    if hasattr(kind, "load_config"):  # of diffusers
        return kind.from_config(kind.load_config(folder))
    return kind(kind.config_class.from_pretrained(folder))


@contextlib.contextmanager
def _making(dtype: torch.dtype, device: str) -> Iterator[None]:
    """New tensors have this dtype and device, and are generated from a seed of their own."""
    import torch

    before = torch.get_default_dtype()
    gpus = [device] if device.startswith("cuda") else []
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(gpus), torch.device(device):
            torch.manual_seed(_SEED)
            yield
    finally:
        torch.set_default_dtype(before)


def _parts(sizes: Sizes) -> dict[str, Any]:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    classes = (CLIPTextModel, CLIPTextModelWithProjection)
    parts = {
        "unet": UNet2DConditionModel(**sizes.unet),
        "vae": AutoencoderKL(**sizes.vae_config),
        "scheduler": DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=sizes.prediction,
        ),
    }
    for number, (kind, layout) in enumerate(zip(classes, sizes.text_encoders, strict=False)):
        name = "text_encoder" if number == 0 else "text_encoder_2"
        parts[name] = kind(_text_config(layout))
    # A part that is made without loading is in training mode, where it could drop out.
    return {name: part.eval() if hasattr(part, "eval") else part for name, part in parts.items()}


def _text_config(layout: Mapping[str, Any]) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    ids = byte_vocabulary()
    return CLIPTextConfig(
        **_TEXT,
        **layout,
        bos_token_id=ids[START],
        eos_token_id=ids[END],
        pad_token_id=ids[END],
    )


def byte_vocabulary() -> dict[str, int]:
    """Every byte as a token, inside a word and at its end, and CLIP's two marks."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    return {token: number for number, token in enumerate(tokens)}


def byte_tokenizer(longest: int) -> CLIPTokenizer:
    """A CLIP tokenizer with a token for each letter, made without a download.

    Args:
        longest: prompt, in tokens.
    """
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps(byte_vocabulary()), encoding="utf-8")
        merges.write_text("#version: 0.2\n", encoding="utf-8")
        settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": longest}
        Path(folder, "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder)
