"""A recipe on a user's own pipeline: it generates what the script generates, and leaves nothing."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffaccel
from diffaccel.errors import InputError
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.accelerators._unpatched import PLAIN
from diffaccel.plugins.models._spec import Lora, TextualInversion
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.schedulers import scheduler_named
from diffaccel.recipes import Accelerated, Recipe, RecipeError, apply, read_recipe, recipe_of
from diffaccel.store.jsonio import RecordError, write_record
from tests import store

from .cells import GRID, SIX, Subject, tree
from .generating import GUIDANCE, PROMPTS, STEPS, Images, decoded, generate

PARTS: dict[str, dict[str, Any]] = {
    "deepcache": {"cache_interval": 2, "cache_branch_id": 1},
    "tgate": {"gate_step": 3, "sp_interval": 1, "fi_interval": 1, "warm_up": 0},
    "tome": {"ratio": 0.5, "max_downsample": 2},
}
SAMPLERS = dict(zip(tiny.FAMILIES, GRID, strict=True))
"""Each layout here has one of them."""
Subjects = Callable[[str, str], Subject]


def recipe(layout: str, names: tuple[str, ...] = ("deepcache", "tgate"), **changes: Any) -> Recipe:
    configuration = Configuration(layout, SAMPLERS[layout], STEPS)
    measured = store.measurement({name: PARTS[name] for name in names}, 2.0, 0.01)
    side = 2 * tiny.LATENT_SIZE
    made = recipe_of(store.baseline(configuration), measured)
    size = {"height": side, "width": side, "guidance_scale": GUIDANCE}
    return dataclasses.replace(made, **{**size, **changes})


def fresh(family: str) -> Any:
    """A pipeline as a user loads it, with a sampler that is none of ours."""
    from diffusers import EulerDiscreteScheduler

    pipe = tiny.FAMILIES[family](0)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    return pipe


def images(pipe: Any, call: Callable[..., Any]) -> Images:
    def run() -> None:
        seeds = range(len(PROMPTS))
        call(list(PROMPTS), generator=[torch.Generator().manual_seed(seed) for seed in seeds])

    return decoded(pipe, run)


@pytest.mark.parametrize(
    ("family", "names"),
    [(family, SIX[i + 3 * more]) for i, family in enumerate(tiny.FAMILIES) for more in (0, 1)],
)
def test_generates_what_the_script_generates_and_leaves_nothing(
    subjects: Subjects, family: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "recipe.json"
    write_record(path, recipe(family, names))
    pipe = fresh(family)
    plain, before = generate(pipe), tree(pipe)

    subject = subjects(family, scheduler_named(SAMPLERS[family]).diffusers)
    script = subject.scripted(combination(names), recipe(family, names).parameters)
    own = script.load_pipeline(device="cpu")
    seeds = list(range(len(PROMPTS)))
    expected = decoded(own, lambda: script.generate(own, list(PROMPTS), seeds))

    with apply(pipe, path) as fast:
        np.testing.assert_equal(images(pipe, fast), expected)
        np.testing.assert_equal(images(pipe, fast), expected, err_msg="and again")
    assert tree(pipe) == before
    np.testing.assert_equal(generate(pipe), plain)


def test_a_handle_is_removed_once(tmp_path: Path) -> None:
    pipe = fresh("SD1.5")
    plain, before = generate(pipe), tree(pipe)
    fast = diffaccel.apply(pipe, recipe("SD1.5"))
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"
    assert isinstance(fast, Accelerated) and "DDIM, 5 steps" in repr(fast)
    assert not np.array_equal(images(pipe, fast), plain)
    fast.remove()
    assert tree(pipe) == before
    again = diffaccel.apply(pipe, recipe("SD1.5", ("tome",)))
    fast.remove()
    assert PLAIN in vars(pipe), "what was removed takes nothing else off"
    again.remove()
    assert tree(pipe) == before
    np.testing.assert_equal(generate(pipe), plain)
    with pytest.raises(RecipeError, match="was removed: put it on again"):
        fast("a dot")


def test_what_fails_leaves_nothing() -> None:
    pipe = fresh("SDXL")
    before = tree(pipe)
    with pytest.raises(ZeroDivisionError), apply(pipe, recipe("SDXL")):
        raise ZeroDivisionError
    with pytest.raises(RecipeError, match="max_downsample 1"):
        apply(pipe, recipe("SDXL", ("tome",), parameters={"tome": {"ratio": 0.5}}))
    with (
        apply(pipe, recipe("SDXL")),
        pytest.raises(RecipeError, match="has a recipe on it already"),
    ):
        apply(pipe, recipe("SDXL", ("tome",)))
    assert tree(pipe) == before


def test_the_sampler_is_named_where_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    pipe = fresh("SD1.5")
    with apply(pipe, recipe("SD1.5")):
        pass
    assert "the recipe is for DDIMScheduler: used in place of EulerDiscrete" in caplog.text
    caplog.clear()
    pipe = tiny.sd15()
    own = pipe.scheduler
    with apply(pipe, recipe("SD1.5")):
        assert pipe.scheduler is own
    assert not caplog.records
    pipe = fresh("SD1.5")
    own = pipe.scheduler
    with apply(pipe, recipe("SD1.5"), keep_sampler=True) as fast:
        assert pipe.scheduler is own
        fast("a dot")
    assert "was measured with DDIMScheduler: with EulerDiscreteScheduler, its" in caplog.text


@pytest.mark.parametrize("fused", [False, True])
def test_what_the_pipeline_lacks_is_named(
    fused: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The recipe loads nothing: the pipeline is its user's."""
    path = tiny.save_lora("SD1.5", tmp_path)
    made = recipe(
        "SD1.5",
        lora=(Lora("mine.safetensors", 0.8),),
        textual_inversion=(TextualInversion("word.safetensors", "<mine>"),),
    )
    pipe = tiny.sd15()
    before = tree(pipe)
    with apply(pipe, made):
        assert (
            "measured with a LoRA: mine.safetensors (weight 0.8). This pipeline has" in caplog.text
        )
        assert (
            "inversion word.safetensors: this pipeline does not know its token '<m" in caplog.text
        )
    assert tree(pipe) == before
    word = tiny.save_inversion("SD1.5", tmp_path, "<mine>")
    pipe.load_textual_inversion(str(word), token="<mine>")
    pipe.load_lora_weights(str(path))
    if fused:
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    caplog.clear()
    with apply(pipe, made):
        assert caplog.messages == []


def test_a_call_has_what_was_measured_of_it() -> None:
    """Skipped layers and rescaled guidance, unless the call says others; no negative prompt."""
    pipe, short = tiny.sd15(), tiny.sd15()
    short.text_encoder.encoder.layers = short.text_encoder.encoder.layers[:-1]
    # diffusers skips layers of the prompt alone, and not of the empty one beside it.
    prompts, _ = short.encode_prompt(list(PROMPTS), "cpu", 1, False)
    _, empty = pipe.encode_prompt(list(PROMPTS), "cpu", 1, True)
    embedded = {"prompt_embeds": prompts, "negative_prompt_embeds": empty, "guidance_rescale": 0.7}
    with apply(pipe, recipe("SD1.5")) as fast:
        expected = images(pipe, lambda _, **more: fast(**embedded, **more))
        without = images(pipe, fast)
    before = tree(pipe)
    given = {"clip_skip": 1, "guidance_rescale": 0.7, "negative_prompt": "a dot"}
    with apply(pipe, recipe("SD1.5", **given)) as fast:
        np.testing.assert_equal(images(pipe, fast), expected)
        other = functools.partial(fast, clip_skip=None, guidance_rescale=0.0)
        np.testing.assert_equal(images(pipe, other), without)
    assert tree(pipe) == before
    assert not np.array_equal(expected, without)


def test_other_steps_than_were_measured(
    subjects: Subjects, caplog: pytest.LogCaptureFixture
) -> None:
    """They generate what a script of so many steps generates, and are warned of once."""
    pipe, made = fresh("SD1.5"), recipe("SD1.5")
    subject = subjects("SD1.5", scheduler_named(SAMPLERS["SD1.5"]).diffusers)
    script = subject.scripted(combination(("deepcache", "tgate")), made.parameters)
    own = script.load_pipeline(device="cpu")
    script.STEPS = STEPS + 2
    expected = decoded(own, lambda: script.generate(own, list(PROMPTS), [0, 1]))
    with apply(pipe, made) as fast:
        more = functools.partial(fast, num_inference_steps=STEPS + 2)
        caplog.clear()
        np.testing.assert_equal(images(pipe, more), expected)
        np.testing.assert_equal(images(pipe, more), expected)
        (said,) = caplog.messages
        assert "measured at 5 steps: at 7" in said
        with pytest.raises(RecipeError, match=r"in 2 steps at .*: .*gate_step 3 is above"):
            fast("a dot", num_inference_steps=2)


def test_calls(subjects: Subjects) -> None:
    """Guidance and size can be another; anything else goes to the pipeline."""
    pipe = fresh("SD1.5")
    with apply(pipe, recipe("SD1.5", ("deepcache",))) as fast:
        for name in ("timesteps", "sigmas"):
            with pytest.raises(RecipeError, match=f"counts steps, and is not for {name} of one's"):
                fast("a dot", **{name: [3, 2, 1]})
        made = fast(prompt="a dot", height=40, width=56, guidance_scale=1, num_inference_steps=5)
        assert made.images[0].size == (56, 40)
        embeds = pipe.encode_prompt("a dot", "cpu", 1, True)
        embedded = fast(prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1])
        assert embedded.images[0].size == (32, 32)


def test_a_size_that_an_accelerator_cannot_do_is_refused_in_a_call() -> None:
    tome = {"tome": {"ratio": 0.5, "max_downsample": 8, "sx": 2, "sy": 2}}
    with apply(fresh("SD1.5"), recipe("SD1.5", ("tome",), parameters=tome)) as fast:
        assert fast("a dot", height=None, width=None).images[0].size == (32, 32)
        with pytest.raises(RecipeError, match="5 steps at 128x8 pixels: ToMe: sx 2, sy 2 do not"):
            fast("a dot", height=8, width=128)


@pytest.fixture(scope="module")
def pipe() -> Any:
    """One for all that must not touch it."""
    return fresh("SD1.5")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"family": "SDXL"},
            "a StableDiffusionXLPipeline of the family SDXL; this is a StableDiff",
        ),
        ({"family": "SD2.1"}, r"of the family SD2\.1; this is a .* of the family SD1\.5"),
        ({"family": "SD9"}, "unknown model family 'SD9'.*Known: SD1.5"),
        ({"scheduler": "DDIMM"}, "unknown scheduler 'DDIMM': did you mean 'DDIM'"),
        ({"parameters": {"magic": {}}}, "unknown accelerator 'magic'.*Known"),
        ({"parameters": {}}, "names no accelerator"),
        ({"parameters": {"deepcache": {}}}, "DeepCache: .*missing"),
        ({"parameters": {"deepcache": {"os": 1}}}, "DeepCache: .*'os'"),
        (
            {"parameters": {"deepcache": {"cache_interval": 2, "cache_branch_id": 99}}},
            "cache_branch_id 99 names no layer",
        ),
        (
            {"parameters": {"deepcache": {"cache_interval": 2.0, "cache_branch_id": 0}}},
            "cache_interval must be of type int, got 2.0",
        ),
        ({"steps": 2}, "gate_step 3 is above the 2 steps"),
        ({"steps": 1}, "needs 2 steps or more"),
        (
            {
                "parameters": {"tome": {"ratio": 0.5, "max_downsample": 8, "sx": 2, "sy": 2}},
                "height": 8,
                "width": 128,
            },
            "ToMe: sx 2, sy 2 do not fit into 1 by 16 tokens",
        ),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"guidance_scale": 1.0}, "guidance_scale above 1"),
    ],
)
def test_what_does_not_fit_is_refused(pipe: Any, change: dict[str, Any], says: str) -> None:
    before = tree(pipe)
    with pytest.raises(InputError, match=says):
        apply(pipe, recipe("SD1.5", **change))
    assert tree(pipe) == before


def test_another_kind_of_pipeline() -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipe = fresh("SD1.5")
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    for wrong in (pipe.unet, None):
        with pytest.raises(RecipeError, match="of no known family"):
            apply(wrong, recipe("SD1.5"))
    with pytest.raises(RecipeError, match="this is a StableDiffusionImg2ImgPipeline of the fam"):
        apply(other, recipe("SD1.5"))


# The file


def test_a_recipe_survives(tmp_path: Path) -> None:
    for family in tiny.FAMILIES:
        made = recipe(family)
        write_record(tmp_path / "recipe.json", made)
        assert read_recipe(tmp_path / "recipe.json") == made
    assert made.source == "stabilityai/stable-diffusion-xl-base-1.0"


def test_a_recipe_notes_what_it_was_found_with(tmp_path: Path) -> None:
    commit = "owner/detail@" + "0" * 40
    made = store.baseline(Configuration("mini-SD1.5", "DDIM", 5))
    given: dict[str, Any] = {
        "lora": (
            Lora("/home/me/a", 0.5, "b.safetensors"),
            Lora("/home/me/c.safetensors"),
            Lora(commit, 1.0, "d.safetensors"),
        ),
        "fused": True,
        "textual_inversion": (TextualInversion("/home/me/e.safetensors", "<e>"),),
        "negative_prompt": "blurry",
        "clip_skip": 1,
        "guidance_rescale": 0.5,
    }
    made = dataclasses.replace(made, spec=dataclasses.replace(made.spec, **given))
    found = recipe_of(made, store.measurement(store.deepcache(2), 2, 0.01))
    assert found.lora == (Lora("b.safetensors", 0.5), Lora("c.safetensors"), given["lora"][2])
    assert found.textual_inversion == (TextualInversion("e.safetensors", "<e>"),)
    rest = ("fused", "negative_prompt", "clip_skip", "guidance_rescale")
    assert all(getattr(found, name) == given[name] for name in rest)
    write_record(tmp_path / "recipe.json", found)
    assert "/home/me" not in (tmp_path / "recipe.json").read_text()
    assert read_recipe(tmp_path / "recipe.json") == found


def test_a_recipe_of_before_is_read(tmp_path: Path) -> None:
    """It has none of these fields; neither has one that uses none of them."""
    write_record(tmp_path / "recipe.json", recipe("SD1.5"))
    assert list(json.loads((tmp_path / "recipe.json").read_text())) == sorted(
        [
            *("model", "family", "source", "scheduler", "steps", "guidance_scale", "height"),
            *("width", "batch_size", "parameters", "speedup", "loss", "loss_interval"),
            *("confidence", "means", "prompts", "seed", "environment", "date", "schema"),
            "checksum",
        ]
    )


def test_a_path_is_not_shared() -> None:
    made = store.baseline(Configuration("mini-SD1.5", "DDIM", 5))
    assert recipe_of(made, store.measurement(store.deepcache(2), 2, 0.01)).source is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 4}, "schema 4, this version reads 1, 2 and 3"),
        ({"steps": "five"}, "steps.*'five'"),
        ({"steps": "5"}, "steps: '5' is not what a recipe has there"),
        ({"prompts": None}, "prompts"),
        ({"speedup": float("nan")}, "speedup"),
        ({"extra": "__import__('os')"}, "extra: .* its fields are model"),
        ({"parameters": {"deepcache": {"cache_interval": "2; evil()"}}}, "parameters.deepcache"),
        ({"parameters": {"deepcache": {"cache_interval": [2]}}}, "parameters.deepcache"),
        ({"parameters": {"deepcache": {"cache_interval": "2"}}}, "parameters"),
    ],
)
def test_what_was_tampered_with_is_refused(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.json"
    write_record(path, recipe("SD1.5"))
    whole = json.loads(path.read_text())
    del whole["checksum"]
    path.write_text(json.dumps(copy.deepcopy(whole) | change))
    with pytest.raises(InputError, match=says) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    for name in whole:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(RecordError, match=name):
            read_recipe(path)


def test_importing_the_package_loads_nothing() -> None:
    code = (
        "import sys, diffaccel; assert diffaccel.__version__\n"
        "assert not {'torch', 'diffusers', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "diffaccel.apply; assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'applied'"):
        diffaccel.applied  # noqa: B018
