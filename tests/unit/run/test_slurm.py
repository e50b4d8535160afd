"""Jobs that are left in a queue: whose are ended, and what is said where they do not end. The real
Slurm is in tests/slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from diffaccel.errors import InputError
from diffaccel.run import slurm

PROFILE = Path(__file__).parents[3] / "profiles" / "slurm" / "config.yaml"


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that squeue lists, and to whose name with .ended scancel writes what it is told."""
    listed = tmp_path / "queue"
    for name, script in (("squeue", f"cat {listed}"), ("scancel", f"echo $@ > {listed}.ended")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return listed


def test_only_our_jobs_of_the_folder_are_ended(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, other = tmp_path / "a|b", tmp_path / "other"
    rows = [f"1|diffaccel_x|{project}", f"2|diffaccel_x|{other}", f"3|mine|{project}"]
    queue.write_text("\n".join([*rows, f"4_7|diffaccel_y|{project}"]) + "\n")
    monkeypatch.setattr(slurm, "PATIENCE", 0.0)
    with pytest.raises(InputError, match=r"a\|b do not end.*: 1 4_7\. Start again when"):
        slurm.end_jobs(project)
    assert (tmp_path / "queue.ended").read_text() == "1 4_7\n"


def test_an_empty_queue_is_left_alone(queue: Path, tmp_path: Path) -> None:
    queue.write_text("")
    slurm.end_jobs(tmp_path)
    assert not (tmp_path / "queue.ended").exists()


def test_without_slurm_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.end_jobs(tmp_path)


def test_a_controller_that_does_not_answer_is_said(
    queue: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'no contact' >&2\nexit 1\n")
    slurm.end_jobs(tmp_path)
    assert "no contact" in caplog.text


def test_programs_of_slurm_without_a_cluster_are_no_slurm(
    queue: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "squeue: fatal: Could not establish a configuration source"
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    slurm.end_jobs(tmp_path)
    assert caplog.text == ""


def test_the_profile_names_jobs_as_they_are_known_by() -> None:
    profile = yaml.safe_load(PROFILE.read_text())
    assert f"{profile['slurm-jobname-prefix']}_" == slurm.PREFIX
