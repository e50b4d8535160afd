"""What a U-Net's attention computes beside its own weights. Scripts contain `fuse_projections` as
it is."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention

PLAIN = (
    "AttnProcessor",
    "AttnProcessor2_0",
    "FusedAttnProcessor2_0",
    "SlicedAttnProcessor",
    "XFormersAttnProcessor",
)
"""diffusers' processors that compute attention over what a layer is given, and nothing else."""


def other_processors(unet: Any) -> list[str]:
    """Classes of a U-Net's attention processors that compute something else: an IP-Adapter's add
    the attention to an image's tokens."""
    kinds = {type(each).__name__ for each in unet.attn_processors.values()}
    return sorted(kinds.difference(PLAIN))


def fuse_projections(unet: Any) -> bool:
    """Has each attention layer of a U-Net project with one matrix, where that computes the same.

    diffusers copies the weights of the layers and replaces the processors: what is added to either
    (a LoRA, an IP-Adapter) would be lost. Gives whether it is done.
    """
    attentions = [each for each in unet.modules() if isinstance(each, Attention)]
    layers = [layer for each in attentions for layer in (each.to_q, each.to_k, each.to_v)]
    processors = {type(each.processor).__name__ for each in attentions}
    alike = all(type(layer) is torch.nn.Linear for layer in layers)
    if alike and processors <= {"AttnProcessor", "AttnProcessor2_0"}:
        unet.fuse_qkv_projections()
        return True
    return False
