"""Every sampler with every accelerator of the grid: the images are those of the packages' own
documented usage, nothing stays, and what does not go together is refused with its reason.

`make test` has each sampler with one combination on one layout; `make test-long` has all.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from diffaccel.plugins.accelerators import Combination, PipelineSpec, combination
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import (
    SCHEDULERS,
    made,
    options_for,
    own_config,
    plugin_of,
    scheduler_named,
)
from diffaccel.recipes.codegen import literal
from tests.turns import first

from .cells import SIX, assert_same, scripted, tree
from .generating import GUIDANCE, PROMPTS, STEPS, Images, Parameters, decoded, generate
from .trace import trace
from .upstream import documented

NAMES = (
    *SCHEDULERS,
    *("Euler Karras", "Euler trailing", "Euler exponential", "UniPC beta"),
    *("DPM++ 2M Karras", "DPM++ 2M SDE Karras", "LMS Karras"),
)
PARTS: dict[str, dict[str, Any]] = {
    "deepcache": {"cache_interval": 2, "cache_branch_id": 1},
    "tgate": {"gate_step": 3, "sp_interval": 1, "fi_interval": 1, "warm_up": 0},
    "tome": {"ratio": 0.5, "max_downsample": 2},
}


def _cases() -> list[Any]:
    """Each sampler with one of the six on one layout, in turns; all others take minutes. Noise
    schedules and spacings of a sampler are tried on one layout each."""
    cases = itertools.product(enumerate(NAMES), enumerate(tiny.FAMILIES), enumerate(SIX))
    return [
        pytest.param(
            family,
            name,
            names,
            marks=[pytest.mark.long] * (turn % 2 or (turn % 3, turn % 6) != (layout, which)),
            id=f"{family}-{name}-{'+'.join(names)}",
        )
        for (turn, name), (layout, family), (which, names) in cases
        if name in SCHEDULERS or layout == turn % 3
    ]


def sampled(pipe: Any, name: str, steps: int = STEPS) -> dict[str, Any]:
    """Gives a pipeline a sampler; what diffusers' documentation would set of it."""
    spec, own = scheduler_named(name), own_config(pipe.scheduler)
    pipe.scheduler = made(spec, own, options_for(spec, own), steps)
    return {**plugin_of(spec).always, **spec.options}


def refused(chosen: Combination, pipeline: PipelineSpec) -> str:
    ok, reason = chosen.supports(pipeline)
    return "" if ok else reason


@pytest.mark.parametrize(("family", "name", "names"), _cases())
def test_images_are_those_of_documented_usage_and_nothing_stays(
    family: str, name: str, names: tuple[str, ...]
) -> None:
    pipe, alone = (tiny.FAMILIES[family](0) for _ in range(2))
    options = sampled(pipe, name)
    pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=GUIDANCE)
    chosen = combination(names)
    if reason := refused(chosen, pipeline):
        assert "tgate" in names and plugin_of(scheduler_named(name)).order == 2
        assert "goes with samplers that call the U-Net once a step" in reason
        return
    parameters: Parameters = {each: PARTS[each] for each in names}
    plain, before = generate(pipe), tree(pipe)
    with chosen.applied(pipe, parameters) as call:
        images, layers = trace(pipe, lambda: generate(call))
    assert tree(pipe) == before
    np.testing.assert_equal(generate(pipe), plain)
    assert np.isfinite(images).all() and not np.array_equal(images, plain)
    kind = scheduler_named(name).diffusers
    expected = documented(alone, kind, parameters, options=options)
    assert_same(chosen, images, expected)
    _check_kinds(chosen, parameters, pipeline, layers)


def _check_kinds(
    chosen: Combination, parameters: Parameters, pipeline: PipelineSpec, layers: list[Any]
) -> None:
    """Calls of one kind run the same layers, and there is a kind for each call."""
    others = {
        name: {other: part for other, part in parameters.items() if other != name}
        for name in parameters
    }
    columns = [
        member.step_kinds(parameters[member.name], others[member.name], pipeline)
        for member in chosen.members
    ]
    kinds = list(zip(*columns, strict=True))
    assert len(kinds) == len(layers) == pipeline.calls
    ran: dict[Any, Any] = {}
    for call, (kind, seen) in enumerate(zip(kinds, layers, strict=True)):
        assert ran.setdefault(kind, seen) == seen, (call, kind)


@pytest.mark.parametrize("name", first(NAMES[::-1], 8))
def test_scripts_sample_the_same(name: str, tmp_path: Any) -> None:
    """The script's own scheduler, from the folder's configuration, on a candidate."""
    pipe = tiny.FAMILIES["SD1.5"](0)
    folder = tiny.save("SD1.5", tmp_path)
    options = options_for(scheduler_named(name), pipe.scheduler.config)
    sampled(pipe, name)
    chosen, parameters = combination(("deepcache",)), {"deepcache": PARTS["deepcache"]}
    pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=GUIDANCE)
    script = scripted(
        folder, scheduler_named(name).diffusers, pipeline, chosen, parameters, options
    )
    said = script.source.replace("'", '"')
    for key, value in options.items():
        assert f"{key}={literal(value)}".replace("'", '"') in said
    own = script.load_pipeline(device="cpu")
    own.set_progress_bar_config(disable=True)
    seeds = list(range(len(PROMPTS)))

    def run() -> Images:
        images: Images = script.generate(own, list(PROMPTS), seeds)
        return images

    with chosen.applied(pipe, parameters) as call:
        expected = decoded(pipe, lambda: generate(call))
    np.testing.assert_equal(decoded(own, run), expected)


@pytest.mark.parametrize(
    ("names", "steps"), [(SIX[4], 50), pytest.param(SIX[0], 100, marks=pytest.mark.long)]
)
def test_a_cache_at_times_that_come_again(steps: int, names: tuple[str, ...]) -> None:
    """Of 50 steps with Karras sigmas one has the time of another, of 100 five."""
    pipe = tiny.FAMILIES["SD1.5"](0)
    sampled(pipe, "DPM++ 2M Karras", steps)
    pipeline = PipelineSpec.of(pipe, steps=steps, guidance_scale=GUIDANCE)
    assert pipeline.same_time
    chosen = combination(names)
    parameters = {
        "deepcache": {"cache_interval": 3, "cache_branch_id": 0},
        "tgate": {**PARTS["tgate"], "gate_step": steps // 2},
    }
    parameters = {name: parameters[name] for name in names}
    with chosen.applied(pipe, parameters) as call:
        _, layers = trace(pipe, lambda: generate(call, PROMPTS[:1], num_inference_steps=steps))
    _check_kinds(chosen, parameters, pipeline, layers)
