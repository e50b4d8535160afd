"""Lean transfers on a CUDA device: the same images in every bit, and fewer waits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from diffaccel.plugins import schedulers
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import SCHEDULERS, options_for, own_config, scheduler_named

from .test_graphs import CACHE, GATE, OTHERS, STEPS, generate

pytestmark = pytest.mark.gpu

LEAN: dict[str, dict[str, Any]] = {"transfers": {"images": True}}


@pytest.fixture
def pipe(family: str, scheduler: str) -> Any:
    made = tiny.FAMILIES[family](0).to("cuda", torch.float16)
    spec, own = scheduler_named(scheduler), own_config(made.scheduler)
    made.scheduler = schedulers.made(spec, own, options_for(spec, own), STEPS)
    made.set_progress_bar_config(disable=True)
    return made


def images_of(pipe: Any, parameters: dict[str, dict[str, Any]], steps: int = STEPS) -> np.ndarray:
    """Eight bits a colour, as they leave the pipeline."""
    more = {"output_type": "pil", "num_inference_steps": steps}
    if not parameters:
        return generate(pipe, **more)
    with combination(tuple(parameters)).applied(pipe, parameters) as call:
        return generate(call, **more)


@pytest.mark.parametrize("family", list(tiny.FAMILIES))
@pytest.mark.parametrize("scheduler", list(SCHEDULERS))
def test_images_are_the_same(pipe: Any) -> None:
    for others in OTHERS:
        wanted = images_of(pipe, others)
        np.testing.assert_array_equal(images_of(pipe, LEAN | others), wanted)
        np.testing.assert_array_equal(images_of(pipe, others), wanted)


@pytest.mark.parametrize("family", ["SD1.5"])
@pytest.mark.parametrize("scheduler", list(SCHEDULERS))
def test_times_stay_with_the_processor(pipe: Any) -> None:
    pipe.scheduler.set_timesteps(STEPS, device="cuda")
    own = pipe.scheduler.timesteps
    with combination(["transfers"]).applied(pipe, LEAN):
        pipe.scheduler.set_timesteps(STEPS, device="cuda")
        times = pipe.scheduler.timesteps
    assert times.is_pinned() and torch.equal(times, own.cpu())


@pytest.mark.parametrize("family", ["SD1.5"])
@pytest.mark.parametrize("scheduler", ["DDIM"])
def test_replayed_steps_take_times_from_the_processor(pipe: Any) -> None:
    for others in ({"deepcache": CACHE}, {"tgate": GATE}):
        wanted = images_of(pipe, others)
        parameters = {"graphs": {"decoder": True}} | LEAN | others
        for _ in range(3):  # recorded, then replayed
            np.testing.assert_array_equal(images_of(pipe, parameters), wanted)


@pytest.mark.parametrize("family", ["SD1.5"])
@pytest.mark.parametrize("scheduler", ["DDIM"])
def test_no_step_is_waited_for(pipe: Any) -> None:
    """However many steps there are, the processor waits equally often."""

    def waits(parameters: dict[str, dict[str, Any]], steps: int) -> int:
        images_of(pipe, parameters, steps)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                images_of(pipe, parameters, steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in seen)

    for others in OTHERS:
        assert waits(others, 2 * STEPS) >= waits(others, STEPS) + STEPS, "as diffusers has it"
        assert waits(LEAN | others, 2 * STEPS) == waits(LEAN | others, STEPS)
