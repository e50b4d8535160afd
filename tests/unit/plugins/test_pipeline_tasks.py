"""Models for tasks beside text-to-image: which folders and ControlNets fit, and how many steps are
run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffaccel.evaluation.flops import flops
from diffaccel.experiment.resolve import model_spec
from diffaccel.experiment.schema import ModelEntry
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models import FAMILIES, ModelError, ModelSpec, family_of
from diffaccel.plugins.models.mini import tiny
from diffaccel.plugins.pipeline_tasks import (
    PIPELINE_TASKS,
    class_for,
    steps_run,
    task_of,
    text_to_image,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model and a ControlNet of each family, and a model for inpainting."""
    there = tmp_path_factory.mktemp("models")
    found = {family: tiny.save(family, there / family) for family in ("SD1.5", "SDXL")}
    found |= {f"{each}-net": tiny.save_controlnet(each, there / f"{each}-net") for each in found}
    return found | {"wide": tiny.save_inpainting("SD1.5", there / "wide")}


def spec(folder: Path, task: str | None = None, family: str = "SD1.5", **own: Any) -> ModelSpec:
    given = {"name": "mine", "family": family, "source": str(folder), "task": task}
    inputs = {"inputs": str(folder)} if task else {}
    made = model_spec(ModelEntry(**{**given, **inputs, **own}))
    return replace(made, scorer="resources/models/mini-clip")


def refused(made: ModelSpec) -> str:
    with pytest.raises(ModelError) as error:
        FAMILIES[made.family].check(made)
    return str(error.value)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_classes() -> None:
    for task in PIPELINE_TASKS.values():
        for base, kind in task.classes.items():
            assert class_for(task.name, base) == kind
            assert task_of(kind) is task and text_to_image(kind) == base
    assert class_for(None, "X") == text_to_image("X") == "X" and task_of("X") is None


@pytest.mark.parametrize("task", ["image-to-image", "inpainting"])
def test_any_folder_of_the_same_parts_will_do(
    task: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """The class that it was saved by is not the one that it is loaded by."""
    FAMILIES["SD1.5"].check(spec(folders["SD1.5"], task))
    folder = shutil.copytree(folders["SD1.5"], tmp_path / "saved")
    edit(folder / "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    FAMILIES["SD1.5"].check(spec(folder, task))
    assert family_of(str(folder)) == "SD1.5"
    said = refused(spec(folder))
    assert "If it is for inpainting, set `task: inpainting` of the model" in said
    edit(folder / "model_index.json", _class_name="FluxPipeline")
    assert "is a FluxPipeline" in refused(spec(folder, task))


def test_a_unet_for_inpainting(folders: dict[str, Path]) -> None:
    FAMILIES["SD1.5"].check(spec(folders["wide"], "inpainting"))
    for other in (None, "image-to-image"):
        said = refused(spec(folders["wide"], other))
        assert "takes 9 channels and gives 4: it needs an image and a mask" in said
        assert "give it as a folder, with `task: inpainting` and `inputs`" in said


def test_a_controlnet_must_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    def with_net(folder: Path, family: str = "SD1.5") -> ModelSpec:
        return spec(folders[family], "controlnet", family, controlnet=str(folder))

    for family in ("SD1.5", "SDXL"):
        FAMILIES[family].check(with_net(folders[f"{family}-net"], family))
    said = refused(with_net(folders["SDXL-net"]))
    assert "cross_attention_dim (the width of the text) is 32, and the U-Net's is 16" in said
    assert "Take a ControlNet that was trained for this model's family" in said
    for changes, words in (
        ({"in_channels": 9}, "in_channels is 9, and the U-Net's is 4"),
        ({"block_out_channels": [16, 32]}, "block_out_channels is [16, 32], and the U-Net's is"),
        ({"_class_name": "T2IAdapter"}, "holds a T2IAdapter; `controlnet` takes a ControlNetModel"),
    ):
        folder = shutil.copytree(folders["SD1.5-net"], tmp_path / str(len(words)))
        edit(folder / "config.json", **changes)
        assert words in refused(with_net(folder))
    (folder / "config.json").unlink()
    assert "has no config.json" in refused(with_net(folder))


@pytest.mark.parametrize(
    ("steps", "strength", "run"),
    [(20, None, 20), (20, 1.0, 20), (20, 0.8, 16), (20, 0.3, 6), (20, 0.9999, 19), (2, 0.3, 0)],
)
def test_strength_shortens(steps: int, strength: float | None, run: int) -> None:
    assert steps_run(steps, strength) == run
    pipeline = PipelineSpec("X", steps, (3, 3), (1,), strength=strength)
    assert pipeline.calls == pipeline.steps_run == run
    assert replace(pipeline, order=2).calls == max(0, 2 * run - 1)
    ok, reason = combination(["deepcache"]).supports(pipeline)
    assert ok is (run > 1) and (ok or reason.endswith("one to fill its cache; got 0"))


def test_an_interval_is_no_longer_than_what_is_run() -> None:
    pipeline = PipelineSpec("X", 20, (3, 3), (1,), strength=0.3)
    space = combination(["deepcache"]).space(pipeline)
    assert max(axis.values[-1] for axis in space.axes if "interval" in axis.name) == 6
    fewer = combination(["fewer_steps"]).space(pipeline)
    counts = [int(point["fewer_steps.steps"]) for point in fewer.points()]
    assert counts == list(range(19, 3, -1)), "of three steps none is left"


@pytest.mark.parametrize(
    ("family", "side"), [("SD1.5", 64), pytest.param("SDXL", 128, marks=pytest.mark.long)]
)
def test_what_a_controlnet_takes_beside_the_unet(family: str, side: int) -> None:
    """Counted on the released sizes, without weights."""
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**FAMILIES[family].sizes.unet_config)
        net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        latents, time = torch.empty(1, 4, side, side), torch.tensor(1)
        text = torch.empty(1, 77, unet.config.cross_attention_dim)
        more = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        image = torch.empty(1, 3, 8 * side, 8 * side)
        inner = flops(lambda: unet(latents, time, text, added_cond_kwargs=more))
        beside = flops(
            lambda: net(latents, time, text, controlnet_cond=image, added_cond_kwargs=more)
        )
    assert beside / inner == pytest.approx(PIPELINE_TASKS["controlnet"].beside, abs=0.05)
    pipeline = PipelineSpec("StableDiffusionControlNetPipeline", 20, (3, 3, 3, 2), (1, 2, 4))
    assert pipeline.relative_cost(1.0) == 1.0
    assert pipeline.relative_cost(0.0) == pytest.approx(0.4 / 1.4)
