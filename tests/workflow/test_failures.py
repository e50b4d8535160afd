"""One configuration that fails holds up no other: their scripts are made and verified, and what is
gathered over all is gathered of these."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import read_record
from tests.workflow.conftest import make_project

GOOD = "mini-SD1.5_DDIM_8"


@pytest.mark.long
def test_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_text(
        "".join(
            f"Generate a {model} pipeline using the DDIM sampler with 8 steps, accelerated by "
            "DeepCache with 1.01x speedup\n"
            for model in ("broken", "mini-SD1.5")
        )
    )
    later = tmp_path / "later"
    later.mkdir()
    broken = {"name": "broken", "family": "SD1.5", "source": str(later)}
    broken["scorer"] = "resources/models/mini-clip"
    project = make_project(
        tmp_path / "p",
        # The one that fails is asked for first.
        models=[broken, {"name": "mini-SD1.5", "batch_size": 2}],
        steps=[8],  # a cache is far faster then than the speedup that is asked for
        speedups=[],
        loss_limit=0.9,
        measure={"prompts": 3, "max_prompts": None, "pairs": 1, "max_pairs": 1},
        tasks_file=str(tmp_path / "tasks.txt"),
    )
    results = project.results

    output = project.run(ok=False)

    scripts = {path.stem for path in results.glob("code/*.py")}
    assert {"user-002", f"{GOOD}_deepcache_bound80"} <= scripts
    verification = read_record(Verification, results / "verify" / f"{GOOD}.json")
    assert {result.id for result in verification.results} == scripts
    assert "results/cpu/logs/models/broken.log" in output
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "1 job failed" in page and "no model_index.json" in page
    for name in ("speedup_bounds", "search_params"):
        stored = json.loads((results / f"{name}.json").read_text())
        assert stored and all(key.startswith("('mini-SD1.5', ") for key in stored)
    listed = json.loads((results / "tasks/tasks.json").read_text())["tasks"]
    assert "user-002" in {task["id"] for task in listed}
    assert "user-001" not in {task["id"] for task in listed}
    assert set(pd.read_csv(results / "summary.csv")["model"]) == {"mini-SD1.5"}

    # A script that was deleted is made again, though the other configuration fails again.
    rows = project.journal_lines()
    (results / "code/user-002.py").unlink()
    project.run(ok=False)
    assert (results / "code/user-002.py").exists() and project.journal_lines() == rows

    # What is gathered over all is gathered anew when it is there.
    later.rmdir()
    later.symlink_to(project.folder / "resources/models/mini-SD1.5")
    planned = project.run("--dry-run")
    assert "baseline, bounds, feasible, params, report, search, serving, summary, tasks" in planned
