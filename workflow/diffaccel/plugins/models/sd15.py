"""Stable Diffusion 1.5 and models of its layout (Rombach et al., 2022, arXiv:2112.10752)."""

from __future__ import annotations

from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.models._embedded import embedded
from diffaccel.plugins.models._layout import Layout
from diffaccel.plugins.models._untrained import CLIP_L, Sizes
from diffaccel.plugins.models.base import StableDiffusion


class SD15(StableDiffusion):
    """Four U-Net levels with channels 1:2:4:4, one text encoder, epsilon prediction."""

    name = "SD1.5"
    known = (
        ModelSpec(
            name="SD1.5",
            family="SD1.5",
            source="stable-diffusion-v1-5/stable-diffusion-v1-5",
            height=512,
            width=512,
            guidance_scale=7.5,
            batch_size=8,
            scorer="openai/clip-vit-large-patch14",
            prompts="resources/prompts/real.txt",
            heldout="resources/prompts/real-heldout.txt",
        ),
        embedded("SD1.5"),
    )
    sizes = Sizes(
        unet={
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "attention_head_dim": 8,
            "cross_attention_dim": 768,
        },
        vae={"sample_size": 512},
        parameters=1_066_235_307,
        text_encoders=(CLIP_L,),
    )

    def fits(self, layout: Layout) -> bool:
        return super().fits(layout) and not layout.second_generation


PLUGIN = SD15()
