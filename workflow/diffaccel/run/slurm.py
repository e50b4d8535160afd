"""Jobs that a run left in Slurm's queue: they outlive a master that was killed."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from pathlib import Path

from diffaccel.errors import InputError

log = logging.getLogger(__name__)

PREFIX = "diffaccel_"
"""How the names of our jobs begin: ``slurm-jobname-prefix`` of profiles/slurm."""
PATIENCE = 120.0
"""Seconds that ended jobs may take to be gone; Slurm kills what does not stop after 30."""
_POLL_SECONDS = 0.5
NO_CLUSTER = "Could not establish a configuration source"
"""What Slurm's programs say where they are installed and no cluster is."""


def end_jobs(folder: str | Path) -> None:
    """Cancels all jobs that were submitted from a folder, and waits until they are gone.

    For the start of a run, when whoever submitted them is dead, so that no result has two writers;
    and for the end of one that was interrupted while it submitted. What they measured is in the
    journals. Does nothing where there is no Slurm.

    Raises:
        InputError: they do not end.
    """
    left = _jobs(Path(folder))
    if not left:
        return
    log.warning("ending %d jobs that are left in Slurm: %s", len(left), " ".join(left))
    subprocess.run(["scancel", *left], capture_output=True, text=True)
    deadline = time.monotonic() + PATIENCE
    while left := _jobs(Path(folder)):
        if time.monotonic() > deadline:
            raise InputError(
                f"jobs that were submitted from {folder} do not end, and would write what this run "
                f"writes: {' '.join(left)}. Start again when squeue does not list them any more"
            )
        time.sleep(_POLL_SECONDS)


def are_left(folder: Path) -> bool:
    """Whether jobs that were submitted from a folder wait or run."""
    return bool(_jobs(folder))


def _jobs(folder: Path) -> list[str]:
    """Ids of our jobs of a folder that wait or run."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%j|%Z"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 and NO_CLUSTER not in done.stderr:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        log.warning("cannot ask Slurm what is left in its queue: %s", said)
    rows = [line.split("|", 2) for line in done.stdout.splitlines()]
    return [
        number
        for number, name, place in rows
        if name.startswith(PREFIX) and os.path.realpath(place) == os.path.realpath(folder)
    ]
