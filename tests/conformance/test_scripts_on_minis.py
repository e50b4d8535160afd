"""Every shape of script that the benchmark has, run on the trained models of this repository.

That scripts generate exactly what was measured is `Cells`' business, on tiny pipelines; here it is
the benchmark's files, with these models' own arguments, that run, accelerate and leave nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaccel.benchmark import ground_truth
from diffaccel.benchmark.prompt_set import Prompt
from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.tasks import Request
from diffaccel.plugins.models import known_models
from diffaccel.plugins.schedulers import scheduler_named
from diffaccel.stages.script import load_script
from tests import store
from tests.turns import in_turns

from .cells import GRID, SIX

STEPS = 4
PARTS: dict[str, dict[str, Any]] = {
    "deepcache": {"cache_interval": 2, "cache_branch_id": 3},
    "tgate": {"gate_step": 3, "sp_interval": 1, "fi_interval": 1, "warm_up": 0},
    "tome": {"ratio": 0.5, "max_downsample": 2},
}
MINIS = [name for name in known_models() if name.startswith("mini-")]


@pytest.mark.parametrize(("model", "scheduler"), in_turns(MINIS, GRID))
def test_every_shape_runs(
    model: str, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.ROOT)  # where the models' folders are
    configuration = Configuration(model, scheduler, STEPS)
    cells: dict[tuple[str, ...], Sequence[Measurement]] = {
        names: [store.measurement({name: PARTS[name] for name in names}, 2.0, 0.01)]
        for names in SIX
    }
    store.write(tmp_path, configuration, cells)
    requests = [
        Request(model, scheduler, STEPS),
        *(Request(model, scheduler, STEPS, names) for names in SIX),
    ]
    prompts = [Prompt(number, request) for number, request in enumerate(requests)]
    said = ground_truth.write(tmp_path / "b", prompts, tmp_path, "cpu", known_models())
    assert "1 made of category 1, 3 made of category 2, 3 made of category 3" in said

    scripts = [load_script(tmp_path / "b/gt_code" / f"{prompt.id}.py") for prompt in prompts]
    loading = {inspect.getsource(script.load_pipeline) for script in scripts}
    assert len(loading) == 1, "all load alike, so that once is enough"
    pipe = scripts[0].load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe.scheduler).__name__ == scheduler_named(scheduler).diffusers

    def generated(script: Any) -> bytes:
        (image,) = script.generate(pipe, ["a red square above a blue ring"], [0])
        assert image.size == (128, 128) and np.ptp(np.asarray(image)) > 50
        data: bytes = image.tobytes()
        return data

    images = [generated(script) for script in scripts]
    assert len(set(images)) == len(scripts), "each does what no other does"
    assert generated(scripts[0]) == images[0], "and none leaves anything"
