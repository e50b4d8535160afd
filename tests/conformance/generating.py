"""What all these tests generate, and with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

STEPS = 5
GUIDANCE = 7.5
PROMPTS = ("a red ring", "two blue dots")

Images = NDArray[np.float32]
Parameters = Mapping[str, Mapping[str, Any]]


def generate(call: Callable[..., Any], prompts: tuple[str, ...] = PROMPTS, **more: Any) -> Images:
    """Images of the prompts, image i from the noise of seed i."""
    count = len(prompts) * more.get("num_images_per_prompt", 1)
    arguments = {
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "generator": [torch.Generator().manual_seed(seed) for seed in range(count)],
        "output_type": "np",
    }
    images: Images = call(list(prompts), **{**arguments, **more}).images
    return images


def decoded(pipe: Any, run: Callable[[], Any]) -> Images:
    """The images that ``run`` generates, before they are rounded to eight bits."""
    seen: list[torch.Tensor] = []
    handle = pipe.vae.decoder.register_forward_hook(lambda *call: seen.append(call[-1]))
    run()
    handle.remove()
    images: Images = (seen[-1] * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().numpy()
    return images


def first_input(pipe: Any, run: Callable[[], Any]) -> torch.Tensor:
    """The latents with which ``run`` calls the U-Net first."""
    seen: list[torch.Tensor] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    run()
    handle.remove()
    return seen[0]
