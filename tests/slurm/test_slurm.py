"""The workflow on a real Slurm: devices, retries, and what becomes of jobs when daemons and masters
are killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from diffaccel.report.words import named
from diffaccel.search.records import Search
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import read_record
from tests.slurm.cluster import SAVED, Cluster, Job
from tests.slurm.conftest import Ended, Submitting, submitting

pytestmark = pytest.mark.slurm

TWO = ["mini-SD1.5_DDIM_8", "mini-SD1.5_DPM-Solver++_8"]
SCHEDULERS = ["DDIM", "DPM-Solver++"]


@pytest.fixture(scope="module")
def finished(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submitting]:
    """A run to its end. While its searches ran, the controller was killed and started again, and
    then a search crashed."""
    folder = tmp_path_factory.mktemp("finished") / "p"
    with submitting(folder, cluster, schedulers=SCHEDULERS) as made:
        master = made.start()
        made.wait(master, lambda: len(made.jobs("search")) == 2)
        time.sleep(SAVED)
        cluster.kill_controller()
        cluster.start_controller()
        made.wait(master, lambda: made.crash(f"search_wildcards_{TWO[0]}", "search"))
        assert made.end(master) == 0, made.output()
        yield made


def test_the_grid_goes_through_slurm_to_verified_scripts(finished: Submitting) -> None:
    results = finished.project.results
    scripts = {path.stem for path in results.glob("code/*.py")}
    verifications = [
        read_record(Verification, results / "verify" / f"{configuration}.json")
        for configuration in TWO
    ]
    found = [result for verification in verifications for result in verification.results]
    assert scripts == {result.id for result in found} and len(scripts) >= 4
    assert all(result.same_scores for result in found)
    done = {job.comment for job in finished.jobs() if job.state == "COMPLETED"}
    stages = ("baseline", "search", "verify")
    assert done == {f"rule_{s}_wildcards_{configuration}" for s in stages for configuration in TWO}
    assert f"{len(found)} scripts verified" in finished.output()


def test_two_jobs_at_once_get_different_devices(finished: Submitting) -> None:
    pairs = [
        (one, other)
        for one, other in itertools.combinations(finished.jobs(), 2)
        if max(one.start, other.start) < min(one.end, other.end)
    ]
    assert pairs
    devices = [[finished.cluster.device(job) for job in pair] for pair in pairs]
    assert all(sorted(pair) == ["0", "1"] for pair in devices), devices


def test_a_job_that_fails_once_is_tried_again(finished: Submitting) -> None:
    crashed, again = finished.jobs(f"search_wildcards_{TWO[0]}")
    assert (crashed.state, again.state) == ("FAILED", "COMPLETED")
    # It gets more memory the second time.
    asked = [
        finished.cluster.ask("squeue", f"--jobs={job.id}", "--states=all", "-ho", "%m").strip()
        for job in (crashed, again)
    ]
    assert asked == ["1000M", "2000M"]


def test_logs_of_all_jobs_are_kept(finished: Submitting) -> None:
    logs = finished.project.folder.glob(".snakemake/slurm_logs/*/*/*.log")
    assert sorted(int(path.stem) for path in logs) == [job.id for job in finished.jobs()]


@dataclass(frozen=True)
class Restarted:
    """A run that was interrupted and started again, then killed and started again while its jobs
    went on. The baseline of one of its two configurations crashes each time that it is tried.

    Args:
        interrupted: the jobs right after the interrupted master ended.
        killed: right after a master was killed.
        kept: rows that were in the journals then.
    """

    run: Submitting
    interrupted: list[Job]
    killed: list[Job]
    kept: list[str]


@pytest.fixture(scope="module")
def restarted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    folder = tmp_path_factory.mktemp("restarted") / "p"
    command = [
        *(f"results/cpu/search/{configuration}.json" for configuration in TWO),
        "--retries",
        "1",
    ]
    with submitting(folder, cluster, schedulers=SCHEDULERS) as made:

        def rows() -> list[str]:
            made.crash(f"baseline_wildcards_{TWO[1]}", "baseline")
            return made.project.journal_lines("evaluations")

        master = made.start(*command)
        made.wait(master, lambda: [job.state for job in made.jobs()] == ["RUNNING", "RUNNING"])
        os.killpg(master.pid, signal.SIGINT)
        assert made.end(master) != 0
        interrupted = made.jobs()

        master = made.start(*command)
        made.wait(master, rows)
        os.killpg(master.pid, signal.SIGKILL)
        made.end(master)
        killed, kept = made.jobs(), rows()

        master = made.start(*command)
        with contextlib.suppress(Ended):
            made.wait(master, lambda: rows() and False)
        yield Restarted(made, interrupted, killed, kept)


def test_nothing_is_left_in_the_queue_of_an_interrupted_run(restarted: Restarted) -> None:
    assert [job.state for job in restarted.interrupted] == ["CANCELLED", "CANCELLED"]


def test_jobs_of_a_killed_master_never_write_beside_those_of_the_next(restarted: Restarted) -> None:
    assert [job.state for job in restarted.killed if "search" in job.comment] == ["RUNNING"]
    jobs = restarted.run.jobs("search")
    assert [job.state for job in jobs] == ["CANCELLED", "COMPLETED"]
    assert all(one.end <= other.start for one, other in itertools.pairwise(jobs))
    assert "jobs that are left in Slurm" in restarted.run.output()


def test_what_was_measured_before_is_not_measured_again(restarted: Restarted) -> None:
    project = restarted.run.project
    rows = project.journal_lines("evaluations")
    assert rows[: len(restarted.kept)] == restarted.kept
    candidates = [json.dumps(json.loads(row)["measurement"]["parameters"]) for row in rows]
    assert restarted.kept
    found = read_record(Search, project.results / "search" / f"{TWO[0]}.json")
    assert len(set(candidates)) == len(candidates) == found.cells[0].measured


def test_a_job_that_always_fails_stops_no_other(restarted: Restarted) -> None:
    results, jobs = (
        restarted.run.project.results,
        restarted.run.jobs(f"baseline_wildcards_{TWO[1]}"),
    )
    assert {job.state for job in jobs[-2:]} == {"FAILED"}
    assert [path.stem for path in results.glob("search/*.json")] == [TWO[0]]
    assert f"failed {named('baseline', TWO[1])}: " in restarted.run.output()


def test_other_hardware_than_named_stops_a_job_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """The machine that submits sees none. That of the job has no GPU, for all that Slurm says."""
    with submitting(tmp_path / "p", cluster, platform="nvidia-h100-80gb-hbm3") as made:
        assert made.end(made.start("--retries", "0")) != 0
    (job,) = made.jobs()
    assert job.state == "FAILED" and cluster.device(job) in ("0", "1")
    said = "the results are for 'nvidia-h100-80gb-hbm3' and this machine is 'cpu'"
    assert said in " ".join(made.output().split())
    assert not list(made.project.folder.glob("results/*/journal"))


def test_without_a_named_platform_nothing_is_submitted(cluster: Cluster, tmp_path: Path) -> None:
    with submitting(tmp_path / "p", cluster, platform="auto") as made:
        assert made.end(made.start()) != 0
    assert "name theirs in the configuration" in made.output() and not made.jobs()
