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

from .cells import SIX, assert_same, generated, tree
from .generating import GUIDANCE, PROMPTS, STEPS, Images, Parameters, decoded, generate

NAMES = (*SIX, *((name,) for name in ACCELERATORS if (name,) not in SIX))
SIDE = 2 * tiny.LATENT_SIZE


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

    @property
    def configuration(self) -> Configuration:
        return Configuration(self.spec.name, "DDIM", STEPS)

    def script(self, names: tuple[str, ...] = (), parameters: Parameters | None = None) -> Any:
        """A generated script as a module."""
        made = scripts._baseline(self.spec, self.configuration, "a test")
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


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Subject]:
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
        own = made.script().load_pipeline(device="cpu")
        own.set_progress_bar_config(disable=True)
        return dataclasses.replace(made, own=own)

    return subject


@pytest.fixture
def subject(subjects: Callable[[str, bool], Subject], family: str, fused: bool) -> Subject:
    return subjects(family, fused)


EACH = [
    pytest.mark.parametrize("fused", [False, True], ids=["beside", "fused"]),
    pytest.mark.parametrize("family", ["SD1.5", "SDXL"]),
]


def on_each(test: Any) -> Any:
    for mark in EACH:
        test = mark(test)
    return test


@on_each
def test_the_script_loads_what_is_measured(subject: Subject, fused: bool) -> None:
    np.testing.assert_equal(subject.by_script(subject.script()), subject.plain)
    assert not np.allclose(generate(subject.bare), subject.plain, atol=0.01)
    assert bool(getattr(subject.pipe.unet, "peft_config", None)) is not fused


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_fused_and_beside_the_weights_they_do_the_same(
    subjects: Callable[[str, bool], Subject], family: str
) -> None:
    beside, fused = (subjects(family, each).plain for each in (False, True))
    np.testing.assert_allclose(beside, fused, atol=1e-3)


@on_each
@pytest.mark.parametrize("names", NAMES, ids="+".join)
def test_every_accelerator(subject: Subject, names: tuple[str, ...]) -> None:
    """It has an effect that the LoRAs have, too; its script generates the same; nothing stays."""
    chosen, pipe = combination(names), subject.pipe
    supported, reason = chosen.supports(subject.pipeline)
    if not supported:
        pytest.skip(reason)
    parameters = generated(chosen.space(subject.pipeline), f"{names} {subject.spec.family}")
    before = tree(pipe)
    with chosen.applied(pipe, parameters) as call:
        images = generate(call)
    assert tree(pipe) == before
    np.testing.assert_equal(generate(pipe), subject.plain)
    with chosen.applied(subject.bare, parameters) as call:
        assert not np.allclose(generate(call), images, atol=0.01), "the LoRAs have no effect"
    assert_same(chosen, subject.by_script(subject.script(names, parameters)), images, parameters)
    np.testing.assert_equal(subject.by_script(subject.script()), subject.plain)
