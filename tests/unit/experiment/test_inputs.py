"""The task of a model and the images of its prompts: what is wrong with them is one clear message
before any job, and what they hold is part of what a measurement is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffaccel.errors import InputError
from diffaccel.evaluation import keys
from diffaccel.evaluation.bench import fingerprint_of, of_call, shared, versions
from diffaccel.evaluation.calls import Bench
from diffaccel.evaluation.records import Environment, Evaluation
from diffaccel.experiment import inputs
from diffaccel.experiment.config import ConfigError, load
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.prompts import PromptLine, as_json, repeated, subjects_of
from diffaccel.machine.devices import Device
from diffaccel.plugins.models import ModelSpec, fingerprint, local_files
from diffaccel.store.jsonio import to_json
from tests.store import baseline, deepcache

TEXTS = [f"a picture of {number} things" for number in range(6)]
CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)


def picture(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (colour, 0, 0)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts and six images, each with a mask."""
    for number in range(6):
        picture(tmp_path / f"in/{number}.png", 40 * number)
        picture(tmp_path / f"in/{number}_mask.png", 255)
    (tmp_path / "prompts.txt").write_text("\n".join(TEXTS))
    return tmp_path


def entry(folder: Path, **own: Any) -> dict[str, Any]:
    usual = {"name": "mini-SD1.5", "task": "image-to-image", "inputs": str(folder / "in")}
    usual["prompts"] = str(folder / "prompts.txt")
    return {key: value for key, value in (usual | own).items() if value is not None}


def configured(folder: Path, more: dict[str, Any] | None = None, **own: Any) -> Experiment:
    measure = {"prompts": 4, "max_prompts": 4}
    return Experiment(load({"models": [entry(folder, **own)], "measure": measure, **(more or {})}))


def spec_of(folder: Path, **own: Any) -> ModelSpec:
    return configured(folder, **own).specs["mini-SD1.5"]


def refused(folder: Path, more: dict[str, Any] | None = None, **own: Any) -> str:
    with pytest.raises(ConfigError) as error:
        configured(folder, more, **own)
    lines = str(error.value).splitlines()
    assert len(lines) == 2, lines
    return lines[1]


# Entries

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"task": "image2image"}, "unknown task 'image2image'; did you mean 'image-to-image'? Known:"),
    ({"inputs": None}, "the task image-to-image needs `inputs`: a folder with an image for each"),
    ({"task": "inpainting", "inputs": None}, "a folder with an image and a mask for each prompt"),
    ({"inputs": "nowhere"}, "inputs: there is no folder 'nowhere'"),
    ({"task": None}, "inputs is for a model with a `task`, one of controlnet, image-to-image,"),
    ({"task": None, "inputs": None, "strength": 0.5}, "strength is for a model with a `task`"),
    ({"task": None, "inputs": None, "controlnet": "a/b"}, "controlnet is for a model with a `ta"),
    ({"controlnet": "a/b"}, "controlnet is for controlnet, and the task is image-to-image"),
    ({"controlnet_scale": 1.0}, "controlnet_scale is for controlnet, and the task is image-to-i"),
    ({"task": "controlnet"}, "the task controlnet needs a `controlnet`: a folder or a hub id"),
    (
        {"task": "controlnet", "controlnet": "/nowhere"},
        "controlnet: there is no folder '/nowhere'; a hub id is owner/name",
    ),
    (
        {"task": "controlnet", "controlnet": "a/b", "strength": 0.5},
        "strength is for image-to-image and inpainting, and the task is controlnet",
    ),
    ({"strength": 0}, "must be above 0 and at most 1, the share of the steps that is run; got 0"),
    ({"strength": 1.5}, "must be above 0 and at most 1, the share of the steps that is run; got"),
    ({"strength": 0.04}, "strength: 0.04 runs none of 20 steps; set at least 0.05"),
    ({"heldout_inputs": "."}, "heldout_inputs needs `heldout`, a file of held-out prompts"),
    ({"guidance_rescale": 0.5}, "guidance_rescale: diffusers' StableDiffusionImg2ImgPipeline doe"),
    (
        {"untrained": True, "family": "SD1.5"},
        "an untrained model has random weights, so leave out task, inputs",
    ),
]


@pytest.mark.parametrize(("own", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_wrong_entries(own: dict[str, Any], said: str, folder: Path) -> None:
    assert said in refused(folder, **own)


def test_what_is_left_out_is_diffusers_own(folder: Path) -> None:
    import inspect

    import diffusers

    from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, SETTINGS

    for task in PIPELINE_TASKS.values():
        for kind in task.classes.values():
            call = inspect.signature(getattr(diffusers, kind).__call__).parameters
            assert (task.strengths or {}).get(kind) == getattr(
                call.get("strength"), "default", None
            )
            assert task.sized == ("height" in call and "width" in call)
            assert (kind in task.rescales) == ("guidance_rescale" in call)
            assert task.controlled == (SETTINGS["controlnet_scale"] in call)
            assert {each.argument for each in task.inputs} <= set(call)
    assert spec_of(folder).strength == 0.8


def test_each_family_has_its_own_default(folder: Path) -> None:
    found = {
        (family, task): configured(folder, name=f"mini-{family}", task=task)
        .specs[f"mini-{family}"]
        .strength
        for family in ("SD1.5", "SDXL")
        for task in ("image-to-image", "inpainting")
    }
    assert found == {
        ("SD1.5", "image-to-image"): 0.8,
        ("SDXL", "image-to-image"): 0.3,
        ("SD1.5", "inpainting"): 1.0,
        ("SDXL", "inpainting"): 0.9999,
    }


# Files


def test_too_few_images(folder: Path) -> None:
    for number in (2, 3, 4):
        (folder / f"in/{number}.png").unlink()
    assert "in has 3 images, and 4 prompts are asked for, each with one of its own" in refused(
        folder
    )


def test_fewer_images_than_the_most_prompts(folder: Path) -> None:
    (folder / "in/5.png").unlink()
    spec = spec_of(folder)
    assert len(inputs.prompts_of(spec, 4, 6)) == inputs.count_of(spec, 4, 6) == 5


def test_what_is_no_image(folder: Path) -> None:
    (folder / "in/1.png").write_text("no image")
    assert "in/1.png cannot be read as an image" in refused(folder)


def test_a_broken_image_is_found_when_it_is_read(folder: Path) -> None:
    path = folder / "in/1.png"
    Image.effect_noise((99, 99), 50).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    spec = spec_of(folder)  # its header is whole
    with pytest.raises(inputs.InputsError, match=r"1\.png cannot be read as an image"):
        inputs.prompts_of(spec, 4)


def test_a_missing_mask(folder: Path) -> None:
    (folder / "in/2_mask.png").unlink()
    assert "in has no mask of 2.png: call it 2_mask.png, or name it in a column `mask`" in refused(
        folder, task="inpainting"
    )


def test_masks_of_another_kind_of_file(folder: Path) -> None:
    picture(folder / "in/2_mask.webp")
    (folder / "in/2_mask.png").unlink()
    lines = inputs.prompts_of(spec_of(folder, task="inpainting"), 4)
    assert lines[2] == PromptLine(
        TEXTS[2],
        image="2.png",
        mask="2_mask.webp",
        inputs=lines[2].inputs,  # type: ignore[union-attr]
    )


def test_columns_name_files(folder: Path) -> None:
    picture(folder / "in/sub/cat.png")
    picture(folder / "in/hole.png")
    table = folder / "prompts.tsv"
    rows = [f"{text}\tsub/cat.png\thole.png" for text in TEXTS[:4]]
    table.write_text("\n".join(["prompt\timage\tmask", *rows]))
    lines = inputs.prompts_of(spec_of(folder, task="inpainting", prompts=str(table)), 4)
    assert {(line.image, line.mask) for line in lines} == {("sub/cat.png", "hole.png")}  # type: ignore[union-attr]
    table.write_text("\n".join(["prompt\timage", *(f"{text}\tnot.png" for text in TEXTS[:4])]))
    assert f"has no not.png, the image of '{TEXTS[0]}'" in refused(folder, prompts=str(table))
    table.write_text("\n".join(["prompt\timage", f"{TEXTS[0]}\t0.png", *TEXTS[1:4]]))
    assert "line 3: image must be the name of a file in `inputs`, not ''" in refused(
        folder, prompts=str(table)
    )


def test_text_to_image_does_not_look_at_these_columns(folder: Path) -> None:
    table = folder / "prompts.tsv"
    table.write_text("\n".join(["prompt\timage", *(f"{text}\tx.png" for text in TEXTS)]))
    spec = spec_of(folder, task=None, inputs=None, prompts=str(table))
    assert inputs.prompts_of(spec, 4) == TEXTS[:4]


# Held-out prompts


def test_heldout_prompts_and_images_follow(folder: Path) -> None:
    spec = spec_of(folder)
    seen = inputs.prompts_of(spec, 4)
    found = inputs.heldout_of(spec, 4, seen)
    assert [(line.prompt, line.image) for line in found] == [  # type: ignore[union-attr]
        (TEXTS[4], "4.png"),
        (TEXTS[5], "5.png"),
    ]


def test_the_same_text_with_another_image_is_another_prompt(folder: Path) -> None:
    (folder / "prompts.txt").write_text("\n".join(["in the style of Monet"] * 6))
    (folder / "in/5.png").write_bytes((folder / "in/0.png").read_bytes())
    spec = spec_of(folder)
    seen = inputs.prompts_of(spec, 4)
    (other,) = inputs.heldout_of(spec, 4, seen)
    assert other.image == "4.png"  # type: ignore[union-attr]
    assert len(set(subjects_of(repeated(seen, 3)))) == 4


def test_a_file_of_heldout_prompts_has_a_folder(folder: Path) -> None:
    heldout = folder / "heldout.txt"
    heldout.write_text("one\ntwo")
    said = refused(folder, heldout=str(heldout))
    assert "name no images: set `heldout_inputs` to the folder" in said
    picture(folder / "more/x.png")
    own = {"heldout": str(heldout), "heldout_inputs": str(folder / "more")}
    spec = spec_of(folder, **own)
    (line,) = inputs.heldout_of(spec, 4, inputs.prompts_of(spec, 4))
    assert (line.prompt, line.image) == ("one", "x.png")  # type: ignore[union-attr]
    _, files = configured(folder, **own).heldout(CONFIGURATION)
    assert files == [str(heldout), str(folder / "more/x.png")]


# Identity


def test_images_are_inputs_of_the_jobs(folder: Path) -> None:
    files = configured(folder).files(CONFIGURATION)
    assert str(folder / "in/3.png") in files and str(folder / "prompts.txt") in files


def test_what_an_image_holds_makes_another_measurement(folder: Path) -> None:
    def now() -> tuple[dict[str, str], str]:
        spec = spec_of(folder, task="inpainting")
        prompts = inputs.prompts_of(spec, 4)
        bench = Bench(
            None,
            CONFIGURATION,
            spec,
            MeasureOptions(),
            prompts,
            Device("cpu"),
            {},  # type: ignore[arg-type]
        )
        where = Environment("cpu", "CPU", "1.0", "float32", "none", 1, versions())
        row = Evaluation(deepcache(2), 0.0, (0.0, 0.0), {"clip_score": [1.0] * 4}, {}, None, 1, "")
        known = replace(baseline(CONFIGURATION), prompts=prompts)
        return fingerprint_of(bench, where), keys.of_evaluation(known)(row)["prompts"]

    before, key = now()
    picture(folder / "in/5.png", 7)  # which no prompt has
    assert now() == (before, key)
    for name in ("2.png", "2_mask.png"):
        picture(folder / "in" / name, 7)
        after, other = now()
        assert {part for part in before if before[part] != after[part]} == {"prompts"}
        assert shared(after) == shared(before), "times are the same"
        assert other != key
        before, key = after, other


def test_settings_make_another_measurement(folder: Path) -> None:
    plain = spec_of(folder, task=None, inputs=None)
    edited = spec_of(folder)
    assert fingerprint(plain) != fingerprint(edited) != fingerprint(replace(edited, task="x"))
    assert of_call(edited) != of_call(replace(edited, strength=0.5))
    assert of_call(edited) != of_call(replace(edited, controlnet_scale=0.5))
    assert fingerprint(edited) != fingerprint(replace(edited, controlnet="owner/name@1"))
    assert fingerprint(edited) == fingerprint(replace(edited, inputs="elsewhere"))
    assert all("in/" not in str(path) for path in local_files(edited))


def test_text_to_image_says_nothing_of_it(folder: Path) -> None:
    spec = spec_of(folder, task=None, inputs=None)
    said = to_json(spec)
    assert not {"task", "inputs", "strength", "controlnet"} & set(said)
    assert as_json([PromptLine("a", seed=1)]) == [{"prompt": "a", "seed": 1}]
    assert "strength" not in to_json(baseline(CONFIGURATION).pipeline)


def test_scripts_are_not_judged(folder: Path) -> None:
    import json

    asked = "Generate a mini-SD1.5 pipeline using the DDIM sampler with 20 steps"
    (folder / "asked.json").write_text(json.dumps([{"prompt_id": "1", "prompt_context": asked}]))
    (folder / "1.py").touch()
    judge = {"prompts": str(folder / "asked.json"), "scripts": str(folder)}
    found = configured(folder, {"judge": judge})
    assert not found.judged
    ((one, reason),) = found.given.unparsed
    assert one.id == "1" and "what is judged is text-to-image" in reason


def test_errors_are_of_the_users_input() -> None:
    assert issubclass(inputs.InputsError, InputError)
