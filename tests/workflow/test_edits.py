"""docs/how-to/edit-images.md: from a configuration to a verified script that changes images."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.prompts import as_line
from diffaccel.plugins.models.mini.scenes import alter, draw_scenes, parse_caption
from diffaccel.search.records import Search
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import read_record
from tests.workflow.conftest import ROOT, Project

NAME = "mini-SD1.5_DDIM_8"


def images(folder: Path, captions: list[str]) -> Path:
    """A drawn scene for each caption, with one thing in it otherwise."""
    rng = random.Random(0)
    scenes = [alter(parse_caption(caption), rng) for caption in captions]
    folder.mkdir()
    for number, drawn in enumerate(draw_scenes(scenes, seed=0)):
        array = drawn.permute(1, 2, 0).numpy()
        Image.fromarray(array).resize((160, 140)).save(folder / f"scene-{number}.png")
    return folder


def edited(folder: Path, captions: list[str]) -> np.ndarray[Any, Any]:
    """The first two images as diffusers' documentation makes them."""
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
        ROOT / "resources/models/mini-SD1.5", safety_checker=None
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    given = [Image.open(folder / f"scene-{number}.png") for number in range(2)]
    # 160 x 140: ten pixels off on the left and on the right.
    fitted = [
        each.resize((128, 128), Image.Resampling.LANCZOS, (10, 0, 150, 140)) for each in given
    ]
    found = pipe(
        captions[:2],
        image=fitted,
        strength=0.8,
        num_inference_steps=8,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
    ).images
    return np.stack([np.asarray(image) for image in found])


@pytest.mark.long
def test_image_to_image_from_configuration_to_a_verified_script(
    project: Project, tmp_path: Path
) -> None:
    captions = (ROOT / "resources/prompts/mini.txt").read_text().splitlines()[:6]
    (tmp_path / "prompts.txt").write_text("\n".join(captions))
    folder = images(tmp_path / "inputs", captions)
    mine = {
        "name": "mini-SD1.5",
        "task": "image-to-image",
        "inputs": str(folder),
        "prompts": str(tmp_path / "prompts.txt"),
        "batch_size": 2,
    }
    changes: dict[str, Any] = {
        "models": [mine],
        "accelerators": ["DeepCache", "T-Gate"],
        "speedups": [1.05],
        "search": {"space": "coarse"},
        "verify": {"heldout": 2, "max_pairs": 2},
    }
    project.configure(**changes)
    project.run()

    record = project.results / "baseline" / f"{NAME}.json"
    baseline = read_record(Baseline, record)
    assert (baseline.spec.strength, baseline.pipeline.calls) == (0.8, 6)
    assert [as_line(each).image for each in baseline.prompts] == [
        f"scene-{number}.png" for number in range(4)
    ]
    shown = [np.asarray(Image.open(record.with_suffix("") / f"00{i}.png")) for i in range(2)]
    difference = np.stack(shown).astype(int) - edited(folder, captions)
    assert np.abs(difference).max() <= 2 and np.mean(difference != 0) < 0.01

    found = {
        cell.cell.accelerators: cell
        for cell in read_record(Search, project.results / "search" / f"{NAME}.json").cells
    }
    assert found[("deepcache",)].status == "measured"
    assert found[("tgate",)].status == "refused"
    assert "which take no image" in found[("tgate",)].reason

    verified = read_record(Verification, project.results / "verify" / f"{NAME}.json")
    assert verified.results and all(each.same_scores for each in verified.results)
    assert [as_line(each).image for each in verified.heldout] == ["scene-4.png", "scene-5.png"]

    script = project.results / "code" / f"{verified.results[0].id}.py"
    command = [sys.executable, str(script), "--prompt", captions[0], "--out", "one.png"]
    one = subprocess.run(
        [*command, "--image", str(folder / "scene-0.png")],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert one.returncode == 0, one.stderr
    assert Image.open(project.folder / "one.png").size == (128, 128)
    none = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert none.returncode == 2 and "required: --image" in none.stderr

    # Another image in the same file, and one prompt is another.
    (folder / "scene-0.png").write_bytes((folder / "scene-5.png").read_bytes())
    project.run(f"results/cpu/baseline/{NAME}.json")
    changed = read_record(Baseline, record)
    assert changed.digest == baseline.digest and changed.whole != baseline.whole
    same = zip(changed.image_digests, baseline.image_digests, strict=True)
    assert [one == other for one, other in same] == [False, True, True, True]
