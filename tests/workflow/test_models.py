"""Models of a user's own, by configuration alone, and what is wrong with them before any job."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.prompts import PromptLine
from diffaccel.plugins.models._spec import Lora
from diffaccel.plugins.models.mini import tiny
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import read_record
from tests.workflow.conftest import Project


@pytest.mark.long
def test_a_pipeline_of_other_sizes_runs_by_its_folder_alone(
    project: Project, tmp_path: Path
) -> None:
    """Random weights: it is measured, and then refused since its images fit no prompt."""
    mine = {
        "name": "mine",
        "source": str(tiny.save("SDXL", tmp_path / "mine")),
        "scorer": "resources/models/mini-clip",
        "prompts": "resources/prompts/mini.txt",
        "batch_size": 2,
    }
    project.configure(models=[mine], steps=[3])
    output = project.run()
    configuration = "mine_DDIM_3"
    baseline = read_record(Baseline, project.results / "baseline" / f"{configuration}.json")
    assert baseline.pipeline.pipeline_class == "StableDiffusionXLPipeline"
    assert (baseline.spec.family, baseline.spec.height) == ("SDXL", 32)
    assert Image.open(project.results / "baseline" / configuration / "000.png").size == (32, 32)
    assert f"{configuration}_deepcache: the baseline's images score" in " ".join(output.split())


@pytest.mark.long
def test_a_lora_with_prompts_of_their_own_goes_all_the_way(
    project: Project, tmp_path: Path
) -> None:
    """From the configuration to a script that was run and generates what was measured."""
    captions = (project.folder / "resources/prompts/mini.txt").read_text().splitlines()[:6]
    lines = [
        f"{caption}\t{'a cross' * (place % 2)}\t{place + 40}"
        for place, caption in enumerate(captions)
    ]
    prompts = tmp_path / "prompts.tsv"
    prompts.write_text("\n".join(["prompt\tnegative_prompt\tseed", *lines]))
    lora = "resources/models/mini-SD1.5-lora"
    mine = {
        "name": "mini-SD1.5",
        "batch_size": 2,
        "prompts": str(prompts),
        "lora": {"source": lora, "weight": 0.9},
        "negative_prompt": "a ring",
    }
    project.configure(models=[mine], speedups=[1.1], verify={"heldout": 2, "max_pairs": 2})
    project.run()
    name = "mini-SD1.5_DDIM_8"
    baseline = read_record(Baseline, project.results / f"baseline/{name}.json")
    assert baseline.spec.lora == (Lora(lora, 0.9, "pytorch_lora_weights.safetensors"),)
    assert baseline.prompts == [
        PromptLine(caption, "a cross" * (place % 2), place + 40)
        for place, caption in enumerate(captions[:4])
    ]
    verified = read_record(Verification, project.results / f"verify/{name}.json")
    assert verified.heldout == [
        PromptLine(captions[4], "", 44),
        PromptLine(captions[5], "a cross", 45),
    ]
    assert verified.results and all(each.same_scores for each in verified.results)
    (source, *_) = (path.read_text() for path in project.results.glob("code/*.py"))
    assert 'LORA_1 = "resources/models/mini-SD1.5-lora/pytorch_lora_weights.safetensors"' in source
    assert 'NEGATIVE_PROMPT = "a ring"' in source and "[0.9]" in source
