"""Every accelerator and combination on pipelines with LoRAs, beside their weights and in them."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import ACCELERATORS, PipelineSpec, combination
from diffaccel.plugins.models import FAMILIES, ModelSpec
from diffaccel.plugins.models._spec import Lora
from diffaccel.plugins.models.mini import tiny
from diffaccel.recipes import scripts
from diffaccel.recipes.codegen import render
from tests.turns import first

from .cells import SIX, assert_same, generated, tree
from .generating import GUIDANCE, PROMPTS, Images, Parameters, decoded
from .generating import generate as generate_all

LONG = ("compile",)
"""Traced anew for each pipeline: half a minute each."""
NAMES = [
    pytest.param(names, id="+".join(names), marks=[pytest.mark.long] * (names == LONG))
    for names in (*SIX, *((name,) for name in ACCELERATORS if (name,) not in SIX))
]
NEAR = 1e-4
"""How far a value of an image may be off where the same is added up in another order."""
SIDE = 2 * tiny.LATENT_SIZE
STEPS = 3
"""As few as tell: there are many cases."""


def generate(call: Callable[..., Any]) -> Images:
    return generate_all(call, num_inference_steps=STEPS)


@dataclass(frozen=True)
class Subject:
    """A tiny pipeline with two LoRAs.

    Args:
        spec: what it was loaded from.
        pipe, own: it, as it is measured and as its script loads it.
        bare: the same without LoRAs.
        plain: its images.
    """

    spec: ModelSpec
    pipe: Any
    own: Any
    bare: Any
    pipeline: PipelineSpec
    plain: Images

    @functools.cached_property
    def plain_script(self) -> Any:
        return self.script()

    def script(self, names: tuple[str, ...] = (), parameters: Parameters | None = None) -> Any:
        """A generated script as a module."""
        configuration = Configuration(self.spec.name, "DDIM", STEPS)
        made = scripts._baseline(self.spec, configuration, "a test")
        if names:
            parts = combination(names).emit(parameters or {}, self.pipeline)
            made = dataclasses.replace(made, parts=parts)
        module = types.ModuleType("script")
        exec(compile(render(made), "script.py", "exec"), vars(module))
        return module

    def by_script(self, script: Any) -> Images:
        """Images of its own pipeline."""
        seeds = list(range(len(PROMPTS)))
        return decoded(self.own, lambda: script.generate(self.own, list(PROMPTS), seeds))


Subjects = Callable[[str, bool], Subject]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    """By family, and whether the LoRAs are fused; made once."""

    @functools.cache
    def folder(family: str) -> Path:
        found = tmp_path_factory.mktemp(family)
        tiny.save(family, found / "model")
        for seed in (1, 2):
            tiny.save_lora(family, found / f"lora-{seed}", seed)
        return found

    @functools.cache
    def subject(family: str, fused: bool) -> Subject:
        source = folder(family)
        loras = (
            Lora(str(source / "lora-1"), 1.0, "pytorch_lora_weights.safetensors"),
            Lora(str(source / "lora-2/pytorch_lora_weights.safetensors"), -0.5),
        )
        spec = ModelSpec(
            *("mine", family, str(source / "model"), SIDE, SIDE, GUIDANCE, 2),
            scorer="resources/models/mini-clip",
            prompts="resources/prompts/mini.txt",
            dtype="float32",
            lora=loras,
            fused=fused,
        )
        pipe, bare = (
            FAMILIES[family].load(each, "float32", "cpu")
            for each in (spec, dataclasses.replace(spec, lora=(), fused=False))
        )
        for each in (pipe, bare):
            each.set_progress_bar_config(disable=True)
            each.scheduler = tiny.FAMILIES[family](0).scheduler
        pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=GUIDANCE)
        made = Subject(spec, pipe, None, bare, pipeline, generate(pipe))
        own = made.plain_script.load_pipeline(device="cpu")
        own.set_progress_bar_config(disable=True)
        return dataclasses.replace(made, own=own)

    return subject


ON_EACH = pytest.mark.parametrize("family", first(["SD1.5", "SDXL"]))


@ON_EACH
def test_the_script_loads_what_is_measured(subjects: Subjects, family: str) -> None:
    beside, fused = (subjects(family, each) for each in (False, True))
    for subject in (beside, fused):
        np.testing.assert_equal(subject.by_script(subject.plain_script), subject.plain)
        assert not np.allclose(generate(subject.bare), subject.plain, atol=0.1)
    np.testing.assert_allclose(beside.plain, fused.plain, atol=NEAR)
    assert beside.pipe.unet.peft_config and not hasattr(fused.pipe.unet, "peft_config")


@ON_EACH
@pytest.mark.parametrize("names", first(NAMES, 4))
def test_every_accelerator(subjects: Subjects, family: str, names: tuple[str, ...]) -> None:
    """It does the same whether the LoRAs are fused, has their effect, leaves nothing, and its
    script generates the same."""
    both, chosen = [subjects(family, fused) for fused in (False, True)], combination(names)
    supported, reason = chosen.supports(both[0].pipeline)
    if not supported:
        pytest.skip(reason)
    parameters = generated(chosen.space(both[0].pipeline), f"{names} {family}")
    found = []
    for subject in both:
        before = tree(subject.pipe)
        with chosen.applied(subject.pipe, parameters) as call:
            found.append(generate(call))
        assert tree(subject.pipe) == before
        np.testing.assert_equal(generate(subject.pipe), subject.plain)
        by_script = subject.by_script(subject.script(names, parameters))
        assert_same(chosen, by_script, found[-1], parameters)
    beside, fused = found
    tolerance = max(NEAR, *(member.tolerance for member in chosen.members))
    np.testing.assert_allclose(beside, fused, rtol=0, atol=tolerance, err_msg=str(parameters))
    with chosen.applied(both[0].bare, parameters) as call:
        bare = generate(call)
    assert not np.allclose(bare, beside, rtol=0, atol=tolerance), "the LoRAs have no effect"
