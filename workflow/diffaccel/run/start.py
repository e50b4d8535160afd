"""Starting the workflow so that a killed run can simply be started again, and showing it.

Snakemake's own lock outlives a run that was killed, and then asks for ``--unlock``. Here the lock
belongs to the processes: it is gone when they are, however they ended.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diffaccel.errors import InputError
from diffaccel.run import stores

if TYPE_CHECKING:
    from diffaccel.run.outlook import Outlook

SNAKEFILE = Path(__file__).parents[3] / "Snakefile"
LOCK = Path(".snakemake") / "diffaccel.lock"

DRY = {"-n", "--dry-run", "--dryrun"}
"""What snakemake shows its plan for, and does nothing."""


def is_dry(arguments: Sequence[str]) -> bool:
    """Whether nothing is to be done but shown."""
    return not DRY.isdisjoint(arguments)


def run(arguments: Sequence[str]) -> int | None:
    """Runs snakemake with these arguments and shows what it does; its exit status, or None where
    there is nothing to be done. Where it only says something, this process becomes it.

    Raises:
        InputError: what is asked for is wrong, or another run is going on in this folder.
    """
    command, asked = _checked(arguments)
    lock = _hold_lock()
    if sys.stderr.isatty():
        print("planning", file=sys.stderr)
    plan = _planned(command)
    if plan == "nothing":
        return None
    if plan == "work" and asked is not None:
        from diffaccel.run.outlook import lines

        print("\n".join(lines(asked)), flush=True)
    if plan != "work" or is_dry(arguments):
        os.execv(command[0], command)
    return _followed(command, lock)


def make(arguments: Sequence[str]) -> bool:
    """Has snakemake do its work, shows it and comes back; whether all went well.

    Raises:
        InputError: what is asked for is wrong, or another run is going on in this folder.
    """
    command, _ = _checked(arguments)
    lock = _hold_lock()
    try:
        plan = _planned(command)
        if plan == "work" and not is_dry(arguments):
            return _followed(command, lock) == 0
        return plan == "nothing" or subprocess.run(command, pass_fds=[lock]).returncode == 0
    finally:
        os.close(lock)


def _checked(arguments: Sequence[str]) -> tuple[list[str], Outlook | None]:
    """The command of snakemake, which what is wrong with the input never comes to; and what it is
    going to do, where that is to run the workflow."""
    from diffaccel.run import invocation  # numpy comes with it, which other commands do without

    command = _snakemake(arguments)
    return command, invocation.asked(command[command.index("--snakefile") :])


def _snakemake(arguments: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--nolock"]
    return [*command, *arguments]


def _planned(command: Sequence[str]) -> Literal["work", "nothing", "other"]:
    """Whether there is work to do, or something else than work was asked for, or is wrong."""
    # What is damaged is set aside before the plan is made, so that it is made again.
    mending = {} if is_dry(command) else {stores.MENDING: "1"}
    planned = subprocess.run(
        [*command, "--dry-run"], capture_output=True, text=True, env=os.environ | mending
    )
    for line in planned.stderr.splitlines():
        if line.startswith(stores.SET_ASIDE):
            print(line, file=sys.stderr)
    said = planned.stdout + planned.stderr
    if planned.returncode == 0 and "Nothing to be done" in said:
        return "nothing"
    return "work" if planned.returncode == 0 and "This was a dry-run" in said else "other"


def _hold_lock() -> int:
    LOCK.parent.mkdir(exist_ok=True)
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT)
    # Snakemake keeps the lock, too; the jobs it starts do not.
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError(
            f"another run is going on in {Path.cwd()}; wait for it, or stop it"
        ) from None
    return handle


def _followed(command: Sequence[str], lock: int) -> int:
    from diffaccel.run.follow import followed  # tables and evaluation take a while to import

    return followed(command, lock)
