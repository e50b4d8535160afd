"""Writes the golden scripts anew: ``python tests/golden/regenerate.py``, then read the diff."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.space import Parameters
from diffaccel.recipes.codegen import Measured, Script, render

HERE = Path(__file__).parent
CLASSES = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
MODELS = {
    "sd": "resources/models/mini-SD1.5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0@0123456789abcdef0123456789abcdef01234567",
}
LOADING = {"sd": {"safety_checker": None, "requires_safety_checker": False}, "sdxl": {}}
VARIANTS = {"sd": None, "sdxl": "fp16"}
VAES = {
    "sd": None,
    "sdxl": "madebyollin/sdxl-vae-fp16-fix@89abcdef0123456789abcdef0123456789abcdef",
}
SIDES = {"sd": 128, "sdxl": 1024}
DEEPCACHE = {"cache_interval": 3, "cache_branch_id": 0}
TGATE = {"gate_step": 10, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}
TOME = {
    "ratio": 0.5,
    "max_downsample": 2,
    "sx": 2,
    "sy": 2,
    "merge_attn": True,
    "merge_crossattn": False,
    "merge_mlp": False,
}
CANDIDATES: dict[str, Parameters] = {
    "plain": {},
    "deepcache": {"deepcache": DEEPCACHE},
    "tgate": {"tgate": {**TGATE, "sp_interval": 5, "fi_interval": 2, "warm_up": 2}},
    "tome": {"tome": TOME},
    "compile": {"compile": {"channels_last": True}},
    "graphs": {"graphs": {"decoder": True}},
    "transfers": {"transfers": {"images": True}},
    "fewer_steps": {"fewer_steps": {"steps": 12}},
    "deepcache+tgate": {"deepcache": DEEPCACHE, "tgate": TGATE},
    "deepcache+tome": {"deepcache": DEEPCACHE, "tome": TOME},
    "deepcache+tgate+tome": {"deepcache": DEEPCACHE, "tgate": TGATE, "tome": TOME},
    "compile+deepcache+graphs": {
        "compile": {"channels_last": True},
        "deepcache": DEEPCACHE,
        "graphs": {"decoder": True},
    },
}
GOLDEN = {
    "sd_plain": ("sd", "plain", "DDIMScheduler"),
    "sd_deepcache": ("sd", "deepcache", "DPMSolverMultistepScheduler"),
    "sd_tome": ("sd", "tome", "DDIMScheduler"),
    "sd_deepcache+tgate": ("sd", "deepcache+tgate", "DDIMScheduler"),
    "sd_fewer_steps": ("sd", "fewer_steps", "DDIMScheduler"),
    "sd_transfers": ("sd", "transfers", "DDIMScheduler"),
    "sd_compile+deepcache+graphs": ("sd", "compile+deepcache+graphs", "DDIMScheduler"),
    "sdxl_tgate": ("sdxl", "tgate", "UniPCMultistepScheduler"),
    "sdxl_deepcache+tgate+tome": ("sdxl", "deepcache+tgate+tome", "DDIMScheduler"),
}
"""File name -> family, accelerators, scheduler."""
COMMIT = "456789abcdef0123456789abcdef0123456789ab"
ADDITIONS: dict[str, dict[str, Any]] = {
    "sd": {
        "lora": (
            Lora("resources/models/mini-SD1.5-lora", 0.8, "pytorch_lora_weights.safetensors"),
        ),
        "negative_prompt": "a cross",
    },
    "sdxl": {
        "lora": (
            Lora("/data/loras/mine.safetensors"),
            Lora(f"owner/detail@{COMMIT}", -0.5, "detail.safetensors"),
        ),
        "fused": True,
        "textual_inversion": (
            TextualInversion(f"owner/word@{COMMIT}", "<mine>", "learned_embeds.safetensors"),
        ),
        "clip_skip": 1,
        "guidance_rescale": 0.7,
    },
}
"""What the scripts ``*_additions`` have besides."""
EDITS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sd_image_to_image": (
        *("sd", "deepcache"),
        {"pipeline_class": "StableDiffusionImg2ImgPipeline", "strength": 0.6},
    ),
    "sd_inpainting": (
        *("sd", "tome"),
        {
            "pipeline_class": "StableDiffusionInpaintPipeline",
            "strength": 1.0,
            "negative_prompt": "a cross",
        },
    ),
    "sdxl_controlnet": (
        *("sdxl", "deepcache+tome"),
        {
            "pipeline_class": "StableDiffusionXLControlNetPipeline",
            "controlnet": f"owner/canny@{COMMIT}",
            "controlnet_scale": 0.5,
        },
    ),
}
"""File name -> family, accelerators, and what the script of a task has besides."""

EXAMPLE = Measured(
    speedup=2.31,
    loss=0.0042,
    loss_interval=(-0.0021, 0.0104),
    prompts=64,
    hardware="a made-up example, not a measurement",
    versions={"torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0"},
    date="2026-11-20",
)


def script(family: str, parameters: Parameters, scheduler: str) -> Script:
    """A script of 20 steps with made-up figures."""
    joined = combination(list(parameters)) if parameters else None
    pipeline = PipelineSpec(
        pipeline_class=CLASSES[family],
        steps=20,
        block_layers=(3, 3, 3, 2) if family == "sd" else (3, 3, 2),
        transformer_downsamples=(1, 2, 4) if family == "sd" else (2, 4),
        latent_size=SIDES[family] // 8,
    )
    return Script(
        description="An example",
        model=MODELS[family],
        pipeline_class=CLASSES[family],
        scheduler_class=scheduler,
        steps=20,
        guidance_scale=7.5,
        height=SIDES[family],
        width=SIDES[family],
        title=joined.title if joined else "",
        parameters=parameters,
        parts=joined.emit(parameters, pipeline) if joined else (),
        measured=EXAMPLE if joined else None,
        load_arguments=LOADING[family],
        variant=VARIANTS[family],
        vae=VAES[family],
    )


def golden() -> dict[Path, str]:
    """Every golden file and what it should hold."""
    found = {
        name: script(family, CANDIDATES[accelerators], scheduler)
        for name, (family, accelerators, scheduler) in GOLDEN.items()
    }
    for family, own in ADDITIONS.items():
        parameters = CANDIDATES["tgate"]
        made = script(family, parameters, "DDIMScheduler")
        found[f"{family}_additions"] = dataclasses.replace(made, **own)
    for name, (family, accelerators, own) in EDITS.items():
        made = script(family, CANDIDATES[accelerators], "DDIMScheduler")
        found[name] = dataclasses.replace(made, **own)
    return {HERE / f"{name}.py": render(made) for name, made in found.items()}


if __name__ == "__main__":
    for path, source in golden().items():
        path.write_text(source, encoding="utf-8")
        print(f"wrote {path}")
