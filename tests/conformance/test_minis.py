"""Mild candidates on the trained models of this repository: the images stay what they were."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaccel.plugins.accelerators import PipelineSpec, combination
from tests.turns import first

from .cells import SIX
from .generating import GUIDANCE, Images, generate

ROOT = Path(__file__).parents[2] / "resources"
MODELS = sorted(path.parent.name for path in ROOT.glob("models/*/model_index.json"))
STEPS = 20
PROMPTS = tuple((ROOT / "prompts/mini-heldout.txt").read_text(encoding="utf-8").splitlines()[:6])
BOUND = 23.9
"""Decibels. A small model's images drawn in ten steps were that far from those in fifty (median);
with mild candidates of an accelerator they were 45 and nearer."""


def psnr(images: Images, others: Images) -> float:
    """Median of the images' peak signal-to-noise ratios, in decibels."""
    errors = ((images - others) ** 2).mean(axis=(1, 2, 3))
    return float(np.median(10 * np.log10(1 / errors)))


@functools.cache
def loaded(model: str) -> tuple[Any, Images]:
    """A model and its plain images."""
    from diffusers import DDIMScheduler, DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(ROOT / "models" / model)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe, generate(pipe, PROMPTS, num_inference_steps=STEPS)


@pytest.mark.parametrize("names", first([*SIX[:3], SIX[-1]]), ids="+".join)
@pytest.mark.parametrize("model", first(MODELS))
def test_mild_candidates_keep_the_images(model: str, names: tuple[str, ...]) -> None:
    pipe, plain = loaded(model)
    pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=GUIDANCE)
    mild = {
        "deepcache": {"cache_interval": 2, "cache_branch_id": 3},
        "tgate": {"gate_step": 15, "sp_interval": 1, "fi_interval": 1, "warm_up": 0},
        "tome": {"ratio": 0.1, "max_downsample": pipeline.transformer_downsamples[0]},
    }
    assert psnr(plain, plain[::-1]) < BOUND - 6  # other images are far below
    with combination(names).applied(pipe, {name: mild[name] for name in names}) as call:
        images = generate(call, PROMPTS, num_inference_steps=STEPS)
    assert not np.array_equal(images, plain)
    assert psnr(images, plain) > BOUND
