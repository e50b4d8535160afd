"""Ending a run that is told to stop.

A key that is pressed reaches all processes of a terminal. A signal that is sent to Snakemake's
process reaches that alone, which then waits for its jobs: they are told here.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import psutil

from diffaccel.machine.watch import STOPS

GRACE = 8.0
"""Seconds in which a job that was told to stop must end; then it is killed."""
HEARD_ALREADY = 1.0
"""Seconds for those to end that the signal reached, too."""
_POLL_SECONDS = 0.25
_told = threading.Event()


def told() -> bool:
    """Whether this process was told to stop."""
    return _told.is_set()


def pass_on() -> None:
    """Has this process, Snakemake, end its jobs where it is told to stop: with the first signal, as
    a second one would keep it from ending what it submitted."""
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _stop)


def kill(pid: int) -> None:
    """Ends a process, and all that come from it, at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _stop(_number: int, _frame: FrameType | None) -> None:
    if not told():
        _told.set()
        threading.Thread(target=_end_jobs, daemon=True).start()
        raise KeyboardInterrupt


def _end_jobs() -> None:
    """As long as this process lives: it may be about to start another."""
    since: dict[psutil.Process, float] = {}
    time.sleep(HEARD_ALREADY)
    while True:
        for job in _jobs():
            with contextlib.suppress(psutil.NoSuchProcess):
                if job not in since:
                    since[job] = time.monotonic()
                    job.terminate()
                elif time.monotonic() - since[job] > GRACE:
                    kill(job.pid)
        time.sleep(_POLL_SECONDS)


def _jobs() -> Iterator[psutil.Process]:
    """Processes below this one that are jobs, and not what asks a scheduler for something."""
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = each.cmdline()
            if "-m" in command and command[command.index("-m") + 1].startswith(__package__):
                yield each
