"""The experiments that ship: the whole grid, complete in one file, planned without any hardware."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from diffaccel.experiment.config import load
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.schema import Config, MeasureEntry, SearchEntry, VerifyEntry
from tests.workflow.conftest import ROOT, Project

FOLDER = ROOT / "resources" / "experiments"
NAMES = ("real", "mini")


def shipped(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return read


@pytest.mark.parametrize("name", NAMES)
def test_the_grid_has_162_cells_and_1134_targets(name: str) -> None:
    experiment = Experiment(load(shipped(name)))
    assert len(experiment.configurations) == 27
    assert len(experiment.cells) == 162
    assert len(experiment.targets) == 1134
    assert experiment.config.loss_limit == 0.02


def test_both_are_the_same_grid_on_other_models() -> None:
    real, mini = shipped("real"), shipped("mini")
    minis = [entry["name"] for entry in mini.pop("models")]
    assert minis == [f"mini-{name}" for name in real.pop("models")]
    assert real.pop("measure") != mini.pop("measure")
    assert real == mini


@pytest.mark.parametrize("name", NAMES)
def test_a_file_leaves_nothing_of_the_users_config(name: str) -> None:
    """As Snakemake merges: keys one by one, also within sections; lists are replaced."""
    wanted = shipped(name)
    assert set(wanted) == set(Config.model_fields)
    assert set(wanted["measure"]) == set(MeasureEntry.model_fields)
    assert set(wanted["search"]) == set(SearchEntry.model_fields)
    assert set(wanted["verify"]) == set(VerifyEntry.model_fields)
    merged = load_configfile(str(ROOT / "config.yaml"))
    merged["measure"]["seed"] = 7
    merged["steps"] = [1, 2, 3, 4]
    update_config(merged, wanted)
    assert load(merged) == load(wanted)


def test_real_models_evaluate_whole_batches() -> None:
    experiment = Experiment(load(shipped("real")))
    for configuration in experiment.configurations.values():
        assert experiment.options.prompts % experiment.spec(configuration).batch_size == 0


def test_the_real_grid_is_planned_without_network_or_gpu(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project's own config.yaml asks for other things; all of them are replaced."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    output = project.run("--quiet", "all", "--dry-run", "--configfile", str(FOLDER / "real.yaml"))
    jobs = dict(line.split() for line in output.splitlines() if len(line.split()) == 2)
    assert jobs["baseline"] == "27"
    assert jobs["search"] == "27"
    assert not project.results.exists()


@pytest.mark.long
def test_cores_need_not_be_said(project: Project) -> None:
    """A target that does not exist is what is wrong, not that no cores were given."""
    command = [sys.executable, "-m", "diffaccel", "run", "no-such-target"]
    command += ["--configfile", str(FOLDER / "mini.yaml")]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no-such-target" in done.stderr
