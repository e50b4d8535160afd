"""Starting the workflow so that a killed run can simply be started again.

Snakemake's own lock outlives a run that was killed, and then asks for ``--unlock``. Here the lock
belongs to the process: it is gone when the process is, however it ended.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from diffaccel import stores
from diffaccel.errors import InputError

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"
LOCK = Path(".snakemake") / "diffaccel.lock"


DRY = {"-n", "--dry-run", "--dryrun"}
"""What snakemake shows its plan for, and does nothing."""


def is_dry(arguments: Sequence[str]) -> bool:
    """Whether nothing is to be done but shown."""
    return not DRY.isdisjoint(arguments)


def run(arguments: Sequence[str]) -> bool:
    """Becomes snakemake with these arguments; False where there is nothing to be done.

    Raises:
        InputError: another run is going on in this folder.
    """
    _hold_lock()
    command = _snakemake(arguments)
    if not _has_work(command):
        return False
    os.execv(command[0], command)


def make(arguments: Sequence[str]) -> bool:
    """Has snakemake do its work and comes back; whether all went well.

    Raises:
        InputError: another run is going on in this folder.
    """
    lock = _hold_lock()
    try:
        command = _snakemake(arguments)
        return not _has_work(command) or subprocess.run(command, pass_fds=[lock]).returncode == 0
    finally:
        os.close(lock)


def _snakemake(arguments: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--nolock"]
    return [*command, *arguments]


def _has_work(command: Sequence[str]) -> bool:
    # What is damaged is set aside before the plan is made, so that it is made again.
    mending = {} if is_dry(command) else {stores.MENDING: "1"}
    planned = subprocess.run(
        [*command, "--dry-run"], capture_output=True, text=True, env=os.environ | mending
    )
    for line in planned.stderr.splitlines():
        if line.startswith(stores.SET_ASIDE):
            print(line, file=sys.stderr)
    return planned.returncode != 0 or "Nothing to be done" not in planned.stdout + planned.stderr


def _hold_lock() -> int:
    LOCK.parent.mkdir(exist_ok=True)
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT)
    # Snakemake, which takes this process's place, keeps the lock; the jobs it starts do not.
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError(
            f"another run is going on in {Path.cwd()}; wait for it, or stop it"
        ) from None
    return handle
