"""DeepCache and ToMe on image-to-image, inpainting and ControlNet pipelines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.schedulers import SCHEDULERS, made, own_config, scheduler_named
from diffaccel.recipes import Recipe, RecipeError, apply, recipe_of
from tests import store
from tests.turns import first

from .cells import tree
from .edits import CLASSES, GUIDANCE, STEPS, STRENGTH, Subject, documented
from .generating import PROMPTS, Parameters

CACHED = {"cache_interval": 3, "cache_branch_id": 1}
MERGED = {"ratio": 0.5, "max_downsample": 2}
CANDIDATES: dict[str, Parameters] = {
    "deepcache": {"deepcache": CACHED},
    "tome": {"tome": MERGED},
    "deepcache+tome": {"deepcache": CACHED, "tome": MERGED},
}
CASES = [
    *(("", task, "SD1.5") for task, family in CLASSES if family == "SD1.5"),
    *(("", task, "SDXL") for task, family in CLASSES if family == "SDXL"),
    ("wide", "inpainting", "SD1.5"),
]
"""The last: a U-Net of nine channels."""
Subjects = Callable[[str, str, str], Subject]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    """By kind of U-Net, task and family; made once."""

    @functools.cache
    def subject(kind: str, task: str, family: str) -> Subject:
        folder = tmp_path_factory.mktemp(f"{kind}{task}-{family}")
        return Subject.of(task, family, folder, channels=9 if kind else 4)

    return subject


@pytest.fixture
def subject(subjects: Subjects, request: pytest.FixtureRequest) -> Subject:
    return subjects(*request.param)


def on_each(*values: str) -> pytest.MarkDecorator:
    """Each case, with each of the values if there are any. `make test` has four of the cases, with
    one of the values in turns; `make test-long` has the rest."""
    found = [
        pytest.param(
            *(case, *([value] if values else [])),
            id=" ".join(filter(None, (*case, value))),
            marks=[pytest.mark.long] * (place > 3 or (place + number) % len(values or " ") > 0),
        )
        for place, case in enumerate(CASES)
        for number, value in enumerate(values or ("",))
    ]
    return pytest.mark.parametrize(
        ("subject", "name") if values else "subject", found, indirect=["subject"]
    )


@on_each()
def test_the_baseline_is_diffusers_own(subject: Subject) -> None:
    assert type(subject.bench.pipe).__name__ == CLASSES[subject.task, subject.family]
    np.testing.assert_equal(subject.plain, documented(subject, {}))
    np.testing.assert_equal(subject.by_script(subject.script(())), subject.plain)
    assert subject.bench.pipe.unet.config.in_channels in (4, 9)


@on_each(*CANDIDATES)
def test_every_candidate_is_documented_usage(subject: Subject, name: str) -> None:
    """Put on, by the packages' own usage, and by its script; and nothing stays."""
    parameters, pipe = CANDIDATES[name], subject.bench.pipe
    assert combination(sorted(parameters)).supports(subject.pipeline) == (True, "")
    before = tree(pipe)
    images = subject.applied(parameters)
    assert np.isfinite(images).all() and not np.array_equal(images, subject.plain)
    np.testing.assert_equal(images, documented(subject, parameters))
    script = subject.script(tuple(parameters), parameters)
    np.testing.assert_equal(subject.by_script(script), images)
    assert tree(pipe) == before
    np.testing.assert_equal(subject.generate(pipe), subject.plain)


@pytest.mark.parametrize("name", first(CANDIDATES))
def test_a_call_begins_where_its_strength_says(subjects: Subjects, name: str) -> None:
    """And not where the call before began: what that cached is of another image."""
    subject, parameters = subjects("", "image-to-image", "SD1.5"), CANDIDATES[name]
    whole = documented(subject, parameters, strength=1.0)
    with combination(sorted(parameters)).applied(subject.bench.pipe, parameters) as call:
        for _ in range(2):
            np.testing.assert_equal(subject.generate(call, strength=1.0), whole)
            np.testing.assert_equal(subject.generate(call), subject.applied(parameters))


@on_each()
def test_tgate_says_why_not(subject: Subject) -> None:
    for names in (["tgate"], ["deepcache", "tgate"]):
        supported, reason = combination(names).supports(subject.pipeline)
        assert not supported and "text-to-image pipelines, which take no image" in reason


@on_each("transfers", "fewer_steps")
def test_others_work(subject: Subject, name: str) -> None:
    parameters = {"transfers": {"images": True}} if name == "transfers" else {name: {"steps": 4}}
    images = subject.applied(parameters)
    script = subject.script((name,), parameters)
    np.testing.assert_equal(subject.by_script(script), images)
    assert np.array_equal(images, subject.plain) is (name == "transfers")


@pytest.mark.long
@pytest.mark.parametrize("subject", CASES[::2], indirect=True, ids=" ".join)
def test_compiled(subject: Subject) -> None:
    """The blocks of the U-Net; a ControlNet stays as it is."""
    names = ("compile", "deepcache")
    parameters: Parameters = {"compile": {"channels_last": True}, "deepcache": CACHED}
    images, tolerance = subject.applied(parameters), combination(["compile"]).members[0].tolerance
    cached = subject.applied({"deepcache": CACHED})
    np.testing.assert_allclose(images, cached, rtol=0, atol=tolerance)
    by_script = subject.by_script(subject.script(names, parameters))
    np.testing.assert_allclose(by_script, images, rtol=0, atol=tolerance)
    np.testing.assert_equal(subject.generate(subject.bench.pipe), subject.plain)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", first(SCHEDULERS, 6))
@pytest.mark.parametrize("strength", [STRENGTH, pytest.param(0.5, marks=pytest.mark.long)])
def test_steps_are_those_that_run(subjects: Subjects, name: str, strength: float) -> None:
    """With every sampler the U-Net is called as often as is said, and in full when that is said."""
    subject = subjects("", "image-to-image", "SD1.5")
    pipe, sampler = subject.bench.pipe, scheduler_named(name)
    usual, seen = pipe.scheduler, list[bool]()
    pipe.scheduler = made(sampler, own_config(usual), sampler.options, STEPS)
    handles = [
        pipe.unet.register_forward_pre_hook(lambda *_: seen.append(False)),
        pipe.unet.mid_block.resnets[0].register_forward_hook(lambda *_: seen.__setitem__(-1, True)),
    ]
    try:
        pipeline = PipelineSpec.of(pipe, steps=STEPS, guidance_scale=GUIDANCE, strength=strength)
        with combination(["deepcache"]).applied(pipe, {"deepcache": CACHED}) as call:
            subject.generate(call, strength=strength)
        (member,) = combination(["deepcache"]).members
        kinds = member.step_kinds(CACHED, {}, pipeline)
        assert [kind is None for kind in kinds] == seen
        assert len(seen) == pipeline.calls
    finally:
        pipe.scheduler = usual
        for handle in handles:
            handle.remove()


def test_images_are_cropped_and_resized(subjects: Subjects) -> None:
    subject = subjects("", "inpainting", "SD1.5")
    given: dict[str, list[Any]] = subject.bench.inputs(slice(0, 2))
    assert list(given) == ["images", "masks"]
    assert {(image.size, image.mode) for image in given["images"]} == {((32, 32), "RGB")}
    assert {(mask.size, mask.mode) for mask in given["masks"]} == {((32, 32), "L")}
    assert len(given["masks"]) == len(PROMPTS)


def recipe(subject: Subject, parameters: Parameters, **changes: Any) -> Recipe:
    made = recipe_of(
        store.baseline(Configuration(subject.family, "DDIM", STEPS)),
        store.measurement(dict(parameters), 2.0, 0.01),
    )
    spec = subject.bench.spec
    own = ("height", "width", "guidance_scale", "task", "strength", "controlnet_scale")
    return replace(made, **({name: getattr(spec, name) for name in own} | changes))


@pytest.mark.parametrize("case", [*CLASSES][::2], ids=" ".join)
def test_a_recipe_on_ones_own_pipeline(
    subjects: Subjects, case: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Settings are the recipe's, images are the call's; a pipeline of another task is refused."""
    subject, parameters = subjects("", *case), CANDIDATES["deepcache+tome"]
    pipe, expected = subject.own, subject.applied(parameters)
    prompts, seeds = list(PROMPTS), list(range(len(PROMPTS)))
    given = subject.bench.arguments(prompts, seeds, None, subject.bench.inputs(slice(0, 2)))
    told = {
        name: given[name]
        for name in ("prompt", "generator", "image", "mask_image")
        if name in given
    }
    with apply(pipe, recipe(subject, parameters)) as fast:
        np.testing.assert_equal(fast(**told, output_type="np").images, expected)
        assert not caplog.records
        if "strength" in given:
            with pytest.raises(RecipeError, match=r"in 6 steps at 32x32 pixels: .*2 steps or more"):
                fast(**told, strength=0.2)
            fast(**told, strength=0.5)
            assert "measured at strength 0.7: at 0.5, speedup and loss are others" in caplog.text
    with pytest.raises(RecipeError, match=r"is for a StableDiffusion(XL)?Pipeline of the family"):
        apply(pipe, recipe(subject, parameters, task=None))


@pytest.mark.parametrize("task", sorted({task for task, _ in CLASSES}))
def test_the_command_line(
    subjects: Subjects, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file for each prompt; as many as there are prompts."""
    subject = subjects("", task, "SD1.5")
    script, out = subject.script(()), tmp_path / "out.png"
    flags = [f"--{kind.name}" for kind in subject.bench.spec.inputs_taken]
    files = {"--image": "{}.png", "--mask": "{}_mask.png"}
    given = ["--seed", "0", "--out", str(out), "--device", "cpu"]
    for number, prompt in enumerate(PROMPTS):
        given += ["--prompt", prompt]
        for flag in flags:
            given += [flag, str(subject.folder / files[flag].format(number))]
    monkeypatch.setattr("sys.argv", ["script.py", *given])
    script.main()
    made = [np.asarray(Image.open(path)) for path in (out, tmp_path / "out-1.png")]
    np.testing.assert_equal(np.stack(made), (subject.plain * 255).round().astype(np.uint8))
    monkeypatch.setattr("sys.argv", ["script.py", *given, "--prompt", "another"])
    with pytest.raises(SystemExit):
        script.main()
