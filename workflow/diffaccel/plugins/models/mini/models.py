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
from typing import Any, TypeAlias

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from diffaccel.plugins.models.mini.scenes import IMAGE_SIZE, grammar_words

LATENT_SIZE = IMAGE_SIZE // 8
MAX_TOKENS = 32
START, END = "<|startoftext|>", "<|endoftext|>"
# SD1.5's own factor; the autoencoder is rescaled after training so that it holds here too.
SCALING_FACTOR = 0.18215
TIME_ID_WIDTH = 32  # of the embedding of each of SDXL's size and crop ids
# Classifier-free guidance that suits these models: captions fix a scene almost wholly, so stronger
# guidance overshoots, most with the multistep solvers (figures in
# docs/reference/embedded-models.md).
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


Pipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline


@dataclass(frozen=True)
class TextSize:
    """A CLIP text encoder: width, depth, and whether its pooled output is projected."""

    width: int
    layers: int
    projected: bool = False


@dataclass(frozen=True)
class Family:
    """What tells one mini model from another; sizes are channels.

    Attributes:
        name: folder name of the pipeline.
        texts: the text encoders. Several are as SDXL's: their last but one layers side by side,
            and the pooled output of the last added to the time embedding.
        prediction_type: what the U-Net predicts, `epsilon` or `v_prediction`.
        scaling_factor: what latents are multiplied by, as in the family's original.
        base: the model whose autoencoder and scorer this one takes over; None to train them.
        unet: arguments of `UNet2DConditionModel` beyond the common ones.
        vae_channels: the autoencoder's channels, from full to latent resolution.
    """

    name: str
    texts: tuple[TextSize, ...]
    prediction_type: str = "epsilon"
    scaling_factor: float = SCALING_FACTOR
    base: str | None = None
    vae_channels: tuple[int, ...] = (12, 24, 48, 48)
    unet: Mapping[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> int:
        """Width of cross-attention."""
        return sum(text.width for text in self.texts)

    @property
    def xl(self) -> bool:
        """Whether the layout is SDXL's."""
        return len(self.texts) > 1

    def added_conditions(self) -> dict[str, Any]:
        """What the U-Net is told of the pooled embedding and of the six size and crop ids."""
        if not self.xl:
            return {}
        return {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": TIME_ID_WIDTH,
            "projection_class_embeddings_input_dim": self.texts[-1].width + 6 * TIME_ID_WIDTH,
        }


FAMILIES: dict[str, Family] = {
    "sd15": Family(
        name="mini-SD1.5",
        texts=(TextSize(128, 4),),
        unet={
            "block_out_channels": (24, 48, 96, 96),
            "attention_head_dim": 3,  # the number of heads, as in SD1.5's own config
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        },
    ),
    "sd21": Family(
        name="mini-SD2.1",
        texts=(TextSize(144, 4),),
        prediction_type="v_prediction",
        base="mini-SD1.5",
        unet={
            "block_out_channels": (24, 48, 72, 72),
            "attention_head_dim": (3, 6, 9, 9),  # heads again, each of the same width
            "use_linear_projection": True,
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        },
    ),
    "sdxl": Family(
        name="mini-SDXL",
        texts=(TextSize(64, 3), TextSize(112, 4, projected=True)),
        scaling_factor=0.13025,
        base="mini-SD1.5",
        unet={
            "block_out_channels": (24, 40, 64),
            "attention_head_dim": (3, 5, 8),
            "transformer_layers_per_block": (1, 2, 3),
            "use_linear_projection": True,
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
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


def build_text_encoders(family: Family, tokenizer: CLIPTokenizer) -> nn.ModuleList:
    """The untrained text encoders of a family."""
    encoders = nn.ModuleList()
    for text in family.texts:
        kind = CLIPTextModelWithProjection if text.projected else CLIPTextModel
        settings = _text_settings(tokenizer, text.width, text.layers)
        encoders.append(kind(CLIPTextConfig(**settings)))
    return encoders


def embed(encoders: nn.ModuleList, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the U-Net is conditioned on, as the families' pipelines take it from the encoders.

    Args:
        tokens: (N, MAX_TOKENS) int64.

    Returns:
        The words, (N, MAX_TOKENS, context), and the pooled caption, (N, width): of no use, and
        empty, to a family with one encoder.
    """
    if len(encoders) == 1:
        words = encoders[0](tokens).last_hidden_state
        return words, words.new_empty(len(tokens), 0)
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
    words = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return words, outputs[-1].text_embeds


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
        scaling_factor=family.scaling_factor,
        force_upcast=False,  # half precision is enough for it
    )


def build_unet(family: Family) -> UNet2DConditionModel:
    """An untrained U-Net of a family."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=family.context,
        **family.added_conditions(),
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
    text_encoders: nn.ModuleList,
    unet: UNet2DConditionModel,
    tokenizer: CLIPTokenizer,
) -> Pipeline:
    """Put the parts together; no safety checker: the model knows nothing but plain shapes."""
    common = {
        "vae": vae,
        "text_encoder": text_encoders[0],
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": build_scheduler(family),
        "feature_extractor": None,
    }
    if family.xl:
        return StableDiffusionXLPipeline(
            **common, text_encoder_2=text_encoders[1], tokenizer_2=tokenizer, add_watermarker=False
        )
    return StableDiffusionPipeline(**common, safety_checker=None, requires_safety_checker=False)


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


def save_pipeline(pipe: Pipeline, folder: Path) -> None:
    """Write a pipeline folder with float16 weights; `pipe` itself is left in float32."""
    pipe.to(torch.float16).save_pretrained(folder)
    pipe.to(torch.float32)
    for encoder in folder.glob("text_encoder*"):
        _say_float32(encoder)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(scheduler.read_text("utf-8"))
    _write_json(scheduler, {k: v for k, v in config.items() if k in SCHEDULER_KEYS})


def save_scorer(model: CLIPModel, processor: CLIPProcessor, folder: Path) -> None:
    """Write a scorer folder with float16 weights; `model` itself is left in float32."""
    model.half().save_pretrained(folder)
    model.float()
    processor.save_pretrained(folder)
    _say_float32(folder)
