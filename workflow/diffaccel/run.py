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

from diffaccel.errors import InputError

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"
LOCK = Path(".snakemake") / "diffaccel.lock"


def run(arguments: Sequence[str]) -> bool:
    """Becomes snakemake with these arguments; False where there is nothing to be done.

    Raises:
        InputError: another run is going on in this folder.
    """
    _hold_lock()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--nolock"]
    command += arguments
    planned = subprocess.run([*command, "--dry-run"], capture_output=True, text=True)
    if planned.returncode == 0 and "Nothing to be done" in planned.stdout + planned.stderr:
        return False
    os.execv(command[0], command)


def _hold_lock() -> None:
    LOCK.parent.mkdir(exist_ok=True)
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT)
    # Snakemake, which takes this process's place, keeps the lock; the jobs it starts do not.
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(
            f"another run is going on in {Path.cwd()}; wait for it, or stop it"
        ) from None
