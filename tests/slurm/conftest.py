"""A Slurm for all tests here, and projects whose jobs go through it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.slurm import cluster as clusters
from tests.slurm.cluster import Cluster, Job
from tests.workflow.conftest import ROOT, Project, make_project

MEASURING = ("baseline", "search", "verify")
DEADLINE = 400.0
"""Seconds for anything that is waited for."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if reason := clusters.missing():
        pytest.skip(reason)
    with clusters.running() as made:
        yield made


class Ended(AssertionError):
    """A master ended while something was waited for."""


@dataclass(frozen=True)
class Submitting:
    """A project that is run through a Slurm, by our profile."""

    project: Project
    cluster: Cluster
    masters: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A master in a process group of its own, as a shell would start it."""
        command = [sys.executable, "-m", "diffaccel", "run", "--workflow-profile", "profile"]
        environment = os.environ | self.cluster.environment
        with (self.project.folder / "output").open("ab") as output:
            master = subprocess.Popen(
                [*command, *arguments],
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.project.folder,
                start_new_session=True,
            )
        self.masters.append(master)
        return master

    def output(self) -> str:
        """What all masters printed."""
        return (self.project.folder / "output").read_text()

    def wait(self, process: subprocess.Popen[bytes], until: Callable[[], object]) -> None:
        """Until something is so.

        Raises:
            Ended: the master ended before.
        """
        deadline = time.perf_counter() + DEADLINE
        while not until():
            if process.poll() is not None:
                raise Ended(self.output())
            assert time.perf_counter() < deadline, self.output()
            time.sleep(0.1)

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """The exit status of a master that ends by itself."""
        return process.wait(DEADLINE)

    def crash(self, job: str, stage: str) -> bool:
        """Kills the process that measures in a job, if there is one; whether there was."""
        found = [
            pid
            for running in self.jobs(job)
            if running.state == "RUNNING"
            for pid in self.cluster.processes(running, stage)
        ]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(found)

    def jobs(self, pattern: str = "") -> list[Job]:
        """Those of this project."""
        return [job for job in self.cluster.jobs(pattern) if job.folder == str(self.project.folder)]


@contextlib.contextmanager
def submitting(
    folder: Path, cluster: Cluster, *, platform: str = "cpu", **changes: Any
) -> Iterator[Submitting]:
    """A project with the real profile but for what tests cannot wait for and this node lacks. Its
    masters end with the block."""
    measure = {"prompts": 4, "max_prompts": None, "pairs": 1, "max_pairs": 1}
    project = make_project(folder, measure=measure, platform=platform, **changes)
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    for rule in MEASURING:
        profile["set-resources"][rule] |= {"mem_mb": "1000 * attempt", "cpus_per_task": 1}
        if platform == "cpu":
            # Such a job asks for no GPU by itself.
            profile["set-resources"][rule]["gpu"] = 1
    profile |= {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 5}
    # Two jobs on two cores.
    profile["set-threads"] = dict.fromkeys(MEASURING, 1)
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    made = Submitting(project, cluster)
    try:
        yield made
    finally:
        for master in made.masters:
            if master.poll() is None:
                os.killpg(master.pid, signal.SIGKILL)
                master.wait()
