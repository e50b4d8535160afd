"""A project folder of its own for each test: the real Snakefile, rules, models and package."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

SMALL: dict[str, Any] = {
    # Two images a call: as many are evaluated, and timing takes half as long.
    "models": [{"name": "mini-SD1.5", "batch_size": 2}],
    "schedulers": ["DDIM"],
    "steps": [8],
    "accelerators": ["DeepCache"],
    "speedups": [1.1, 50.0],
    "loss_limit": 0.5,
    "fewer_steps_baseline": False,
    "measure": {"prompts": 4, "max_prompts": None, "pairs": 2, "max_pairs": 2},
    "verify": {"heldout": 0, "max_pairs": 2},
}
"""An experiment of one cell that takes seconds. The loss limit is wide, so that the flow does not
hang on how well so few steps and prompts do."""


def _not_activated() -> str:
    """Where a shell looks for programs that did not activate the environment of the
    tests."""
    own = str(Path(sys.executable).parent) if sys.prefix != sys.base_prefix else None
    slots = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(place for place in slots if place != own)


@dataclass(frozen=True)
class Project:
    """A folder in which snakemake runs."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "cpu"

    def configure(self, **changes: Any) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(SMALL | changes))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A run in a process group of its own, so that all of it can be killed."""
        command = [sys.executable, "-m", "diffaccel", "run", "--cores", "2", *arguments]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PATH": _not_activated()}
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=self.folder,
            start_new_session=True,
        )

    def run(self, *arguments: str, ok: bool = True) -> str:
        """Output of a run that must succeed, or must fail."""
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(timeout=900)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert (process.returncode == 0) is ok, output
        return output

    def journal_lines(self, kind: str = "[dt]*") -> list[str]:
        """Of what was evaluated, of what was timed, or of both."""
        return [
            line
            for path in sorted(self.results.glob(f"journal/{kind}/*.jsonl"))
            for line in path.read_text().splitlines()
            if '"measurement"' in line
        ]


Finished = tuple[Project, str]


def make_project(folder: Path, **changes: Any) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resources").symlink_to(ROOT / "resources")
    project = Project(folder)
    project.configure(**changes)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A project that ran to its end, and what that printed. Tests that use it only read: what they
    change they do `again`.

    It runs once for all processes that test, each of which has a copy.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "finished-once"
    shared.mkdir(exist_ok=True)
    said = shared / "said.txt"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            shutil.rmtree(shared / "p", ignore_errors=True)
            said.write_text(_finish(shared))
    copy = shutil.copytree(shared / "p", own / "finished", symlinks=True)
    return Project(copy), said.read_text()


def _finish(folder: Path) -> str:
    """What the run of a new project printed, in a folder."""
    tasks = folder / "tasks.txt"
    start = "Generate a mini-SD1.5 pipeline using the DDIM sampler with 8 steps, accelerated by"
    tasks.write_text(
        "# mine\n"
        f"{start} DeepCache with 1.1x speedup and precision loss not exceeding 0.4\n"
        f"{start} DeepCache with 60x speedup\n"
        f"{start} MagicCache with 2x speedup\n"
        f"{start} DeepCache\n"
        f"{start} DeepCache, running on cpu in at most 100 seconds per image\n"
    )
    verify = {"heldout": 3, "max_pairs": 4, "batch_sizes": [3], "calls": 2}
    project = make_project(
        folder / "p", tasks_file=str(tasks), fewer_steps_baseline=True, verify=verify
    )
    return project.run()


def again(finished: Finished, folder: Path, *missing: str) -> Project:
    """A finished project of which some results are missing."""
    shutil.copytree(finished[0].folder, folder, symlinks=True)
    project = Project(folder)
    for name in missing:
        (project.results / name).unlink()
    return project
