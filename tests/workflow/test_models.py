"""Models of a user's own, by configuration alone, and what is wrong with them before any job."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from diffaccel.evaluation.records import Baseline
from diffaccel.plugins.models.mini import tiny
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
