"""A pipeline's weights under the names that the original code gives them, as in the single files
that people share. The other way round from diffusers/loaders/single_file_utils.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

State = dict[str, torch.Tensor]
Rename = tuple[str, str | Callable[[re.Match[str]], str]]

RESNET: Sequence[Rename] = [
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.conv_shortcut\.", ".skip_connection."),
]
OPEN_CLIP: Sequence[Rename] = [
    (r"^text_model\.", ""),
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^embeddings\.token_embedding", "token_embedding"),
    (r"^final_layer_norm", "ln_final"),
    (r"^encoder\.layers", "transformer.resblocks"),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn", "attn"),
]


def single_file(pipe: Any) -> State:
    """All weights of a pipeline, named as in a single file."""
    parts = {
        "model.diffusion_model.": _unet(pipe.unet),
        "first_stage_model.": _vae(pipe.vae),
    }
    if hasattr(pipe, "text_encoder_2"):
        parts["conditioner.embedders.0.transformer."] = _clip(pipe.text_encoder)
        parts["conditioner.embedders.1.model."] = _open_clip(pipe.text_encoder_2)
    elif pipe.unet.config.use_linear_projection:
        parts["cond_stage_model.model."] = _open_clip(pipe.text_encoder)
    else:
        parts["cond_stage_model.transformer."] = _clip(pipe.text_encoder)
    return {
        prefix + name: value.contiguous()
        for prefix, part in parts.items()
        for name, value in part.items()
    }


def _renamed(state: Mapping[str, torch.Tensor], renames: Sequence[Rename]) -> State:
    made = {}
    for name, value in state.items():
        for pattern, new in renames:
            name = re.sub(pattern, new, name)
        made[name] = value
    return made


def _unet(unet: Any) -> State:
    layers = unet.config.layers_per_block

    def down(match: re.Match[str]) -> str:
        block, kind, layer = int(match[1]), match[2], int(match[3])
        return f"input_blocks.{1 + block * (layers + 1) + layer}.{'01'[kind == 'attentions']}"

    def up(match: re.Match[str]) -> str:
        block, kind, layer = int(match[1]), match[2], int(match[3])
        return f"output_blocks.{block * (layers + 1) + layer}.{'01'[kind == 'attentions']}"

    def upsampler(match: re.Match[str]) -> str:
        block = int(match[1])
        place = 2 if "CrossAttn" in unet.config.up_block_types[block] else 1
        return f"output_blocks.{block * (layers + 1) + layers}.{place}.conv"

    renames: list[Rename] = [
        (r"^time_embedding\.linear_1", "time_embed.0"),
        (r"^time_embedding\.linear_2", "time_embed.2"),
        (r"^add_embedding\.linear_1", "label_emb.0.0"),
        (r"^add_embedding\.linear_2", "label_emb.0.2"),
        (r"^conv_in", "input_blocks.0.0"),
        (r"^conv_norm_out", "out.0"),
        (r"^conv_out", "out.2"),
        (
            r"^down_blocks\.(\d+)\.downsamplers\.0\.conv",
            lambda match: f"input_blocks.{(int(match[1]) + 1) * (layers + 1)}.0.op",
        ),
        (r"^up_blocks\.(\d+)\.upsamplers\.0\.conv", upsampler),
        (r"^mid_block\.resnets\.0", "middle_block.0"),
        (r"^mid_block\.attentions\.0", "middle_block.1"),
        (r"^mid_block\.resnets\.1", "middle_block.2"),
        (r"^down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)", down),
        (r"^up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)", up),
    ]
    attention = {name: value for name, value in unet.state_dict().items() if "attentions" in name}
    other = {name: value for name, value in unet.state_dict().items() if name not in attention}
    # Transformers have norms of these names too, and keep them.
    return _renamed(attention, renames) | _renamed(other, [*RESNET, *renames])


def _vae(vae: Any) -> State:
    last = len(vae.config.up_block_types) - 1
    renames: list[Rename] = [
        (r"\.conv_norm_out", ".norm_out"),
        (r"conv_shortcut", "nin_shortcut"),
        (r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"group_norm", "norm"),
        (r"\.to_([qkv])\.", r".\1."),
        (r"\.to_out\.0\.", ".proj_out."),
        (r"down_blocks\.(\d+)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d+)\.resnets", lambda match: f"up.{last - int(match[1])}.block"),
        (r"up_blocks\.(\d+)\.upsamplers\.0", lambda match: f"up.{last - int(match[1])}.upsample"),
    ]
    made = _renamed(vae.state_dict(), renames)
    # Attention is made of convolutions there.
    inner = re.compile(r"\.(q|k|v|proj_out)\.weight")
    return {
        name: value[..., None, None] if "attn" in name and inner.search(name) else value
        for name, value in made.items()
    }


def _clip(encoder: Any) -> State:
    return _renamed(encoder.state_dict(), [(r"^(?!text_model\.)", "text_model.")])


def _open_clip(encoder: Any) -> State:
    made = _renamed(encoder.state_dict(), OPEN_CLIP)
    fused: State = {}
    for name in [name for name in made if ".attn.q_proj." in name]:
        parts = [made.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        fused[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    if "text_projection.weight" in made:
        fused["text_projection"] = made.pop("text_projection.weight").T
    return made | fused
