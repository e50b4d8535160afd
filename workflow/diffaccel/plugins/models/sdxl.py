"""Stable Diffusion XL base 1.0 and models of its layout (Podell et al., 2023, arXiv:2307.01952)."""

from __future__ import annotations

from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.models._embedded import embedded
from diffaccel.plugins.models._untrained import CLIP_L, Sizes
from diffaccel.plugins.models.base import Family


class SDXL(Family):
    """Three U-Net levels, deep transformers in the lower ones, two text encoders; pooled text and
    image sizes are further conditions."""

    name = "SDXL"
    pipeline_class = "StableDiffusionXLPipeline"
    text_encoders = ("text_encoder", "text_encoder_2")
    known = (
        ModelSpec(
            name="SDXL",
            family="SDXL",
            source="stabilityai/stable-diffusion-xl-base-1.0",
            height=1024,
            width=1024,
            guidance_scale=5.0,
            batch_size=4,
            scorer="openai/clip-vit-large-patch14",
            prompts="resources/prompts/real.txt",
            heldout="resources/prompts/real-heldout.txt",
            variant="fp16",
            # The original one overflows in float16, so that diffusers decodes in float32.
            vae="madebyollin/sdxl-vae-fp16-fix",
        ),
        embedded("SDXL"),
    )
    sizes = Sizes(
        unet={
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "transformer_layers_per_block": (1, 2, 10),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        vae={"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": False},
        # The second is OpenCLIP's ViT-bigG/14.
        parameters=3_468_837_867,
        text_encoders=(
            CLIP_L,
            {
                "hidden_size": 1280,
                "intermediate_size": 5120,
                "num_hidden_layers": 32,
                "num_attention_heads": 20,
                "hidden_act": "gelu",
                "projection_dim": 1280,
            },
        ),
    )


PLUGIN = SDXL()
