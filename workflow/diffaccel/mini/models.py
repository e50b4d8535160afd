"""The mini families: their networks, tokenizer and scorer, and how they are saved.

Everything is an ordinary diffusers or transformers object; nothing in the library knows these
models by anything but their folder.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from diffaccel.mini.scenes import IMAGE_SIZE, grammar_words

LATENT_SIZE = IMAGE_SIZE // 8
MAX_TOKENS = 32
START, END = "<|startoftext|>", "<|endoftext|>"
# SD1.5's own factor; the autoencoder is rescaled after training so that it holds here too.
SCALING_FACTOR = 0.18215
# Classifier-free guidance that suits these models: captions fix a scene almost wholly, so stronger
# guidance overshoots, most with the multistep solvers (figures in docs/mini-models.md).
GUIDANCE = 3.0
# What SD1.5's own scheduler file says. Other keys would be carried over into other schedulers
# in place of their own defaults.
SCHEDULER_KEYS = {
    "_class_name",
    "_diffusers_version",
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_sample",
    "num_train_timesteps",
    "prediction_type",
    "set_alpha_to_one",
    "steps_offset",
    "trained_betas",
}


@dataclass(frozen=True)
class Family:
    """What tells one mini model from another; sizes are channels.

    Attributes:
        name: folder name of the pipeline.
        prediction_type: what the U-Net predicts, `epsilon` or `v_prediction`.
        text_width: width of the text encoder, and of cross-attention.
        text_layers: its depth.
        unet: arguments of `UNet2DConditionModel` beyond the common ones.
        vae_channels: the autoencoder's channels, from full to latent resolution.
    """

    name: str
    prediction_type: str = "epsilon"
    text_width: int = 128
    text_layers: int = 4
    vae_channels: tuple[int, ...] = (12, 24, 48, 48)
    unet: Mapping[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    "sd15": Family(
        name="mini-SD1.5",
        unet={
            "block_out_channels": (24, 48, 96, 96),
            "attention_head_dim": 3,  # the number of heads, as in SD1.5's own config
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        },
    ),
}


def byte_symbols() -> list[str]:
    """The 256 printable characters that stand for bytes in byte-level BPE, in CLIP's order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + n) for n in range(len(hidden))]


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merge the most frequent neighbours until every word is one token (byte-pair encoding)."""
    parts = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(part) > 1 for part in parts):
        pairs = Counter(pair for part in parts for pair in itertools.pairwise(part))
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for part in parts:
            k = 0
            while k < len(part) - 1:
                if (part[k], part[k + 1]) == best:
                    part[k : k + 2] = ["".join(best)]
                k += 1
    return merges


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer in which each word of the grammar is one token and any text has tokens."""
    symbols = byte_symbols()
    merges = learn_merges(grammar_words())
    tokens = [*symbols, *(s + "</w>" for s in symbols), *map("".join, merges), START, END]
    vocab = {token: n for n, token in enumerate(dict.fromkeys(tokens))}
    with tempfile.TemporaryDirectory() as folder:
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        Path(folder, "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        Path(folder, "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), "utf-8")
        Path(folder, "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS})
        )
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def encode_captions(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids of captions, (N, MAX_TOKENS) int64, padded and truncated."""
    encoded = tokenizer(
        captions,
        padding="max_length",
        max_length=MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    ids: torch.Tensor = encoded["input_ids"]
    return ids


def _text_settings(tokenizer: CLIPTokenizer, width: int, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "projection_dim": width,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def build_text_encoder(family: Family, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder of a family."""
    settings = _text_settings(tokenizer, family.text_width, family.text_layers)
    return CLIPTextModel(CLIPTextConfig(**settings))


def build_vae(family: Family) -> AutoencoderKL:
    """An untrained autoencoder of a family: 8 times smaller latents of 4 channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=family.vae_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=IMAGE_SIZE,
        scaling_factor=SCALING_FACTOR,
    )


def build_unet(family: Family) -> UNet2DConditionModel:
    """An untrained U-Net of a family."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=family.text_width,
        **family.unet,
    )


def build_scheduler(family: Family) -> DDIMScheduler:
    """SD1.5's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=family.prediction_type,
    )


def build_scorer(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of the captions and scenes, small enough to score at no cost."""
    width = 96
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
        "projection_dim": width,
    }
    text = _text_settings(tokenizer, width, 3)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=width))


def build_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """The scorer's processor: pixels from [0, 255] to [-1, 1]."""
    images = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return CLIPProcessor(image_processor=images, tokenizer=tokenizer)


def build_pipeline(
    family: Family,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    tokenizer: CLIPTokenizer,
) -> StableDiffusionPipeline:
    """Put the parts together; no safety checker: the model knows nothing but plain shapes."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(family),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _say_float32(folder: Path) -> None:
    """Make transformers load the half-precision file in single precision when nobody says.

    transformers 5 takes the type from the config, where it finds the one the file is stored in;
    arithmetic in half precision is slow and coarse on a CPU.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    for part in (config, *(v for v in config.values() if isinstance(v, dict))):
        part.pop("torch_dtype", None)
        if "dtype" in part:
            part["dtype"] = "float32"
    _write_json(path, config)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")


def save_pipeline(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write a pipeline folder with float16 weights; `pipe` itself is left in float32."""
    pipe.to(torch.float16).save_pretrained(folder)
    pipe.to(torch.float32)
    _say_float32(folder / "text_encoder")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(scheduler.read_text("utf-8"))
    _write_json(scheduler, {k: v for k, v in config.items() if k in SCHEDULER_KEYS})


def save_scorer(model: CLIPModel, processor: CLIPProcessor, folder: Path) -> None:
    """Write a scorer folder with float16 weights; `model` itself is left in float32."""
    model.half().save_pretrained(folder)
    model.float()
    processor.save_pretrained(folder)
    _say_float32(folder)
