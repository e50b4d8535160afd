"""docs/how-to/use-a-lora.md, "All of it together": a fine-tune as people run it, from its folder to
a verified script, by configuration alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffaccel.evaluation.records import Baseline
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import read_record
from tests.workflow.conftest import ROOT, Project

CONFIGURATION = "mine_Euler-Karras_8"
WIDTH, HEIGHT = 88, 128
"""In the proportions of 832 x 1216."""
NEGATIVE, LORA_WEIGHT = "a black ground", 0.05
PROMPTS = (
    "a small red square above a large blue cross on a gray ground\t\t3",
    "a yellow ring, a yellow circle and a purple circle in a column on a beige ground\tgreen\t5",
    "a large green triangle below a large purple triangle on a white ground\t\t",
    "a small orange cross on the left of a black ground\tred\t",
    "a small green cross left of a small green square on a white ground\t\t",
    "a large blue circle right of a large red circle on a gray ground\t\t",
)


def model(folder: Path) -> Path:
    """A fine-tune that predicts v, saved by somebody whose scheduler's file does not say so."""
    shutil.copytree(ROOT / "resources/models/mini-SD2.1", folder)
    path = folder / "scheduler/scheduler_config.json"
    config = json.loads(path.read_text())
    assert config.pop("prediction_type") == "v_prediction"
    path.write_text(json.dumps(config))
    return folder


def lora(folder: Path) -> Path:
    """Its LoRA, as diffusers saves one: here with weights that nobody trained."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = StableDiffusionPipeline.from_pretrained(ROOT / "resources/models/mini-SD2.1")
    torch.manual_seed(0)
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    own = LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
    pipe.unet.add_adapter(own)
    weights = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))
    pipe.save_lora_weights(folder, unet_lora_layers=weights)
    return folder / "pytorch_lora_weights.safetensors"


def documented(folder: Path, file: Path) -> np.ndarray[Any, Any]:
    """The first two images as diffusers' documentation makes them."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = EulerDiscreteScheduler.from_config(
        pipe.scheduler.config, use_karras_sigmas=True, prediction_type="v_prediction"
    )
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="mine")
    pipe.set_adapters(["mine"], [LORA_WEIGHT])
    images = pipe(
        [line.split("\t")[0] for line in PROMPTS[:2]],
        negative_prompt=[NEGATIVE, "green"],
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 5)],
        num_inference_steps=8,
        guidance_scale=3.0,
        height=HEIGHT,
        width=WIDTH,
    ).images
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.long
def test_a_fine_tune_from_its_folder_to_a_verified_script(project: Project, tmp_path: Path) -> None:
    folder, file = model(tmp_path / "mine"), lora(tmp_path / "lora")
    prompts = tmp_path / "prompts.tsv"
    prompts.write_text("prompt\tnegative_prompt\tseed\n" + "\n".join(PROMPTS) + "\n")
    mine = {
        "name": "mine",
        "family": "SD2.1",
        "source": str(folder),
        "prediction_type": "v_prediction",
        "lora": {"source": str(file), "weight": LORA_WEIGHT},
        "negative_prompt": NEGATIVE,
        "width": WIDTH,
        "height": HEIGHT,
        "guidance_scale": 3.0,
        "batch_size": 2,
        "threads": 1,  # other tests run beside it
        "scorer": "resources/models/mini-clip",
        "prompts": str(prompts),
    }
    project.configure(models=[mine], schedulers=["Euler Karras"], steps=[8], speedups=[1.01])

    project.run()

    baseline = read_record(Baseline, project.results / "baseline" / f"{CONFIGURATION}.json")
    shown = [
        np.asarray(Image.open(project.results / "baseline" / CONFIGURATION / f"00{i}.png"))
        for i in range(2)
    ]
    # On another number of threads a few values are rounded otherwise.
    difference = np.stack(shown).astype(int) - documented(folder, file)
    assert np.abs(difference).max() <= 2 and np.mean(difference != 0) < 0.01
    assert baseline.configuration.title == "mine, Euler Karras, 8 steps"
    keys = json.loads((project.results / "speedup_bounds.json").read_text())
    (key,) = keys
    assert "EulerDiscreteScheduler(use_karras_sigmas=True)" in key
    verification = read_record(Verification, project.results / "verify" / f"{CONFIGURATION}.json")
    assert verification.results, "a script was made, run and measured again"
    source = (project.results / "code" / f"{verification.results[0].id}.py").read_text()
    for line in (
        "EulerDiscreteScheduler.from_config(",
        "use_karras_sigmas=True",
        'prediction_type="v_prediction"',
        f"NEGATIVE_PROMPT = {NEGATIVE!r}".replace("'", '"'),
        "load_lora_weights(",
        f"WIDTH = {WIDTH}",
    ):
        assert line in source, line
