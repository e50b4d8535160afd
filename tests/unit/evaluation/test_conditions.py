"""What prompts and models say of a call besides its text: it reaches the pipeline and its scripts,
and what changes nothing is said."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.baseline import run_baseline
from diffaccel.evaluation.calls import Bench
from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.prompts import PromptLine
from diffaccel.machine.devices import Device
from diffaccel.plugins.metrics.base import Images
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.models.mini import tiny
from diffaccel.recipes.recipe import recipe_of
from diffaccel.recipes.scripts import accelerated
from diffaccel.stages.script import load_script
from diffaccel.store.jsonio import read_record, write_record
from tests import store
from tests.turns import first

TOKEN = "<mine>"
SIDE = 2 * tiny.LATENT_SIZE
LINES = (
    "prompt\tnegative_prompt\tseed\n"
    "a red ring\ta blue dot\t\n"
    "two dots\t\t99\n"
    f"a {TOKEN} dot\tsquares\t7\n"
)


@pytest.fixture(scope="module", params=first(["SD1.5", "SDXL"]))
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A tiny model with everything on top."""
    family, folder = request.param, tmp_path_factory.mktemp(request.param)
    (folder / "prompts.tsv").write_text(LINES)
    word = tiny.save_inversion(family, folder / "word", TOKEN)
    lora = tiny.save_lora(family, folder / "lora", 1)
    return ModelSpec(
        *("mine", family, str(tiny.save(family, folder / "model")), SIDE, SIDE, 7.5, 2),
        scorer="resources/models/mini-clip",
        prompts=str(folder / "prompts.tsv"),
        lora=(Lora(str(lora), 0.7),),
        textual_inversion=(TextualInversion(str(word), TOKEN),),
        negative_prompt="rings",
        clip_skip=1 if family == "SD1.5" else None,
        guidance_rescale=0.5,
    )


def opened(spec: ModelSpec, pipe: Any = None) -> Bench:
    configuration, options = Configuration("mine", "DDIM", 4), MeasureOptions(prompts=3, seed=10)
    return benches.open_bench(configuration, spec, options, Device("cpu"), pipe)


@pytest.fixture(scope="module")
def pipe(spec: ModelSpec) -> Any:
    """Loaded once: LoRAs take their time."""
    return opened(spec).pipe


def by_hand(bench: Bench, negatives: list[str], seeds: list[int]) -> Images:
    spec, made = bench.spec, []
    for place in ([0, 1], [2]):
        given = {"clip_skip": spec.clip_skip} if spec.clip_skip else {}
        made += bench.pipe(
            [bench.texts[at] for at in place],
            negative_prompt=[negatives[at] for at in place],
            generator=[torch.Generator().manual_seed(seeds[at]) for at in place],
            num_inference_steps=4,
            guidance_scale=7.5,
            guidance_rescale=0.5,
            height=SIDE,
            width=SIDE,
            **given,
        ).images
    return np.stack([np.asarray(image) for image in made])


def test_a_prompts_own_wins_over_the_models(spec: ModelSpec, pipe: Any, tmp_path: Path) -> None:
    bench = opened(spec, pipe)
    record, images = run_baseline(bench)
    negatives, seeds = ["a blue dot", "rings", "squares"], [10, 99, 7]
    np.testing.assert_equal(images, by_hand(bench, negatives, seeds))
    for others in (["rings"] * 3, ["a blue dot", "", "squares"]):
        assert not np.array_equal(images, by_hand(bench, others, seeds))
    assert record.warnings == []
    assert record.prompts[1] == PromptLine("two dots", "", 99)
    assert "peft" in record.environment.versions
    write_record(tmp_path / "baseline.json", record)
    assert read_record(Baseline, tmp_path / "baseline.json") == record


@pytest.mark.parametrize("usual", ["rings", None])
def test_scripts_generate_the_same(
    spec: ModelSpec, pipe: Any, usual: str | None, tmp_path: Path
) -> None:
    """Called as verification calls them, where the model has a negative prompt, and where prompts
    alone have."""
    bench = opened(replace(spec, negative_prompt=usual), pipe)
    record, _ = run_baseline(bench)
    parameters = store.deepcache(2)
    recipe = recipe_of(record, store.measurement(parameters, 2.0, 0.01))
    path = tmp_path / "script.py"
    path.write_text(accelerated(record, recipe, "a test"))
    script = load_script(path)
    own = opened(bench.spec, script.load_pipeline(device="cpu"))
    benches.check_same(own, record)
    generate = functools.partial(script.generate, own.pipe)
    for batch in bench.batches():
        found = bench.call(functools.partial(bench.accelerated, parameters), batch).images
        plain = bench.call(bench.baseline, batch).images
        assert not np.array_equal(found, plain)
        by_script = own.call(lambda: nullcontext(generate), batch).images
        np.testing.assert_equal(by_script, found)


def test_without_any_a_script_is_told_of_none(spec: ModelSpec, tmp_path: Path) -> None:
    """And takes none, as before there were such."""
    bare = ModelSpec(
        *("mine", spec.family, spec.source, SIDE, SIDE, 7.5, 2),
        scorer=spec.scorer,
        prompts="resources/prompts/mini.txt",
    )
    record, _ = run_baseline(opened(bare))
    measured = store.measurement(store.deepcache(2), 2.0, 0.01)
    source = accelerated(record, recipe_of(record, measured), "a test")
    assert "negative" not in source.lower() and "lora" not in source.lower()
    assert "peft" not in record.environment.versions


def test_what_has_no_effect_is_said(spec: ModelSpec, pipe: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a ring\na dot\nb\n")
    off = replace(spec, guidance_scale=1.0, prompts=str(prompts))
    record, images = run_baseline(opened(off, pipe))
    assert record.warnings == [
        "guidance is off (guidance_scale 1.0), so that negative prompts and guidance_rescale have "
        "no effect",
        f"no prompt and no negative prompt has the token {TOKEN!r} of the textual inversion",
    ]
    less = replace(off, negative_prompt=None, guidance_rescale=None, textual_inversion=())
    again, same = run_baseline(opened(less, pipe))
    assert again.warnings == []
    np.testing.assert_equal(images, same)
