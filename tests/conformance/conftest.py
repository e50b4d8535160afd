"""Tiny pipelines, made once, and what the tests ask them for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffaccel import tiny
from diffaccel.accelerators import PipelineFacts

STEPS = 6
GUIDANCE = 7.5
PROMPTS = ("a red square above a blue ring", "two green circles", "a ring")

Images = NDArray[np.float32]


def generate(call: Callable[..., Any], prompts: tuple[str, ...] = PROMPTS[:2]) -> Images:
    """Images of the prompts, prompt i from the noise of seed i."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    images: Images = call(
        list(prompts),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=generators,
        output_type="np",
    ).images
    return images


def first_input(pipe: Any, run: Callable[[], Any]) -> torch.Tensor:
    """The latents with which ``run`` calls the U-Net first."""
    seen: list[torch.Tensor] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    run()
    handle.remove()
    return seen[0]


@dataclass(frozen=True)
class Subject:
    """A plain pipeline with a scheduler set, its images, and the noise it begins with."""

    pipe: Any
    facts: PipelineFacts
    plain: Images
    noise: torch.Tensor


@pytest.fixture(scope="session")
def subjects() -> Callable[[str, str], Subject]:
    """Subject by family and scheduler class; made once, for all tests."""
    import diffusers

    @functools.cache
    def subject(family: str, scheduler: str) -> Subject:
        pipe = tiny.FAMILIES[family](0)
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        facts = PipelineFacts.of(pipe, steps=STEPS, guidance_scale=GUIDANCE)
        return Subject(pipe, facts, generate(pipe), first_input(pipe, lambda: generate(pipe)))

    return subject
