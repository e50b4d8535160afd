"""Untrained models through snakemake: timed, never scored; what the GPU's benchmark makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import page
from benchmarks.gpu.__main__ import DATA, DOCS, EXPERIMENTS, opened
from benchmarks.gpu.data import SPEED, add_speeds, read_speeds
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.jsonio import read_record
from tests.workflow.conftest import ROOT, Project, make_project

DEEP = {"deepcache": {"cache_interval": 3, "cache_branch_id": 0}}
BOTH = DEEP | {"tgate": {"gate_step": 3, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}}
LATE = {"deepcache": {"cache_interval": 9, "cache_branch_id": 0}}
"""A candidate that cannot work: there are fewer steps."""
EXPERIMENT: dict[str, Any] = {
    "models": [
        {
            "name": "bare",
            "family": "SD1.5",
            "source": "resources/models/mini-SD1.5",
            "untrained": True,
            "height": 64,
            "width": 64,
            "batch_size": 2,
            "threads": 1,
            "prompts": "resources/prompts/mini.txt",
        }
    ],
    "steps": [6],
    "speed": {"candidates": [DEEP, LATE, BOTH]},
}
CONFIGURATION = "bare_DDIM_6"


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m benchmarks.gpu`` in a project's folder."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@dataclass(frozen=True)
class Timed:
    """A project whose untrained model was timed by the benchmark's own command."""

    project: Project
    output: str

    @property
    def data(self) -> Path:
        return self.project.folder / "data"

    @property
    def record(self) -> SpeedRecord:
        return read_record(SpeedRecord, self.project.results / "speed" / f"{CONFIGURATION}.json")


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Timed:
    project = make_project(tmp_path_factory.mktemp("speed") / "p", **EXPERIMENT)
    done = bench(
        project.folder,
        *("speed", "--cpu", "--experiment", "config.yaml", "--data", "data", "--cores", "2"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Timed(project, done.stdout)


@pytest.mark.long
def test_every_parameters_has_its_row(timed: Timed) -> None:
    plain, deep, late, both = timed.record.rows
    assert [row.parameters for row in (plain, deep, late, both)] == [{}, DEEP, LATE, BOTH]
    for row in (plain, deep, both):
        assert row.timing is not None and row.first_call is not None and row.failure is None
        assert len(row.timing.baseline) == len(row.timing.accelerated) == 2
    assert late.timing is None and "cache_interval 9" in str(late.failure)


@pytest.mark.long
def test_the_record_says_what_was_computed_and_how_fast(timed: Timed) -> None:
    record = timed.record
    assert record.untrained is True and record.spec.untrained
    assert record.tflops == pytest.approx(record.tflop / record.seconds)
    assert record.share == pytest.approx(record.tflops / record.ceiling.tflops)
    assert 0 < record.share < 1.5  # a small product on one thread is no strict ceiling


@pytest.mark.long
def test_there_is_no_score_no_task_and_no_script(timed: Timed) -> None:
    results = timed.project.results
    text = (results / "speed" / f"{CONFIGURATION}.json").read_text()
    assert json.loads(text)["untrained"] is True
    assert not {"scores", "loss", "means"} & set(json.loads(text)["rows"][1])
    assert {path.name for path in results.glob("[!.]*")} == {"speed", "journal", "logs"}


@pytest.mark.long
def test_the_run_shows_it(timed: Timed) -> None:
    assert f"{CONFIGURATION}, untrained:" in timed.output and "speed only" in timed.output


@pytest.mark.long
def test_a_lost_record_is_made_from_the_journal(timed: Timed) -> None:
    before, project = timed.record, timed.project
    (project.results / "speed" / f"{CONFIGURATION}.json").unlink()
    project.run()
    again = [row for row in timed.record.rows if row.failure is None]
    assert again == [row for row in before.rows if row.failure is None]
    assert "Nothing to be done" in project.run()


@pytest.mark.long
def test_the_data_holds_what_the_page_is_made_from(timed: Timed, tmp_path: Path) -> None:
    (kept,) = read_speeds(timed.data / "cpu")
    assert kept.rows[1] == timed.record.rows[1]
    text = page.page(timed.data / "cpu")
    assert text is not None
    deep = timed.record.rows[1]
    assert f"| DeepCache (3, 0) | {deep.speedup:.2f}x |" in text
    assert "| DeepCache (3, 0) and T-Gate (3, 1, 1, 0) |" in text
    assert "- bare, DDIM 6, DeepCache (9, 0): DeepCache: cache_interval 9" in text
    for _ in range(2):
        done = bench(tmp_path, "report", "--data", str(timed.data), "--docs", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "cpu.md").read_text() == text


@pytest.mark.long
def test_a_configuration_measured_again_takes_the_older_ones_place(
    timed: Timed, tmp_path: Path
) -> None:
    first = timed.record
    add_speeds(tmp_path, [first])
    assert add_speeds(tmp_path, [first]) == [first]
    assert len((tmp_path / SPEED).read_text().splitlines()) == 1
    fewer = replace(first, rows=first.rows[:2])
    assert add_speeds(tmp_path, [fewer]) == [first]
    assert add_speeds(tmp_path, [replace(fewer, digest="other")])[0].rows == fewer.rows


def test_without_a_gpu_the_benchmark_says_so(tmp_path: Path) -> None:
    (tmp_path / "resources").symlink_to(ROOT / "resources")
    for command in ("speed", "grid"):
        done = bench(tmp_path, command)
        assert done.returncode == 2
        assert done.stderr.startswith("no GPU is visible here") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("platform", ["nvidia-h100-80gb-hbm3", "nvidia-h200", "cpu"])
def test_a_page_is_named_after_the_gpu(platform: str) -> None:
    expected = {"nvidia-h100-80gb-hbm3": "h100.md", "nvidia-h200": "h200.md", "cpu": "cpu.md"}
    assert page.name(platform) == expected[platform]


def test_the_shipped_experiment_is_whole_and_only_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    experiment, _ = opened(EXPERIMENTS / "bench-gpu.yaml")
    assert len(experiment.speeds) == 6 and not experiment.tasks
    assert next(iter(experiment.speeds)) == "SD1.5_DDIM_50"


def test_the_pages_are_what_the_data_makes() -> None:
    """Of every platform that was measured; before the first there is nothing to compare."""
    texts = {
        page.name(folder.name): page.page(folder) for folder in DATA.iterdir() if folder.is_dir()
    }
    made = {name: text for name, text in texts.items() if text is not None}
    if not made:
        pytest.skip("nothing has been measured on a GPU yet")
    for name, text in made.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, "run `make pages`"
