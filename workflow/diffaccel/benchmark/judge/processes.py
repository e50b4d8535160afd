"""Processes of judged code, as the kernel tells of them: children, memory, cores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
    """What is started within computes on so many cores of this process's; 0 is all. They are the
    same ones each time, so that who takes turns has the same."""
    mine = os.sched_getaffinity(0)
    try:
        if count:
            first = os.getpid() % len(mine)
            os.sched_setaffinity(0, (sorted(mine) * 2)[first : first + min(count, len(mine))])
        yield
    finally:
        os.sched_setaffinity(0, mine)


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    found, queue = [pid], [pid]
    while queue:
        own = children(queue.pop())
        found += own
        queue += own
    return found


def resident(pid: int) -> int:
    """Bytes of memory of a process and all that come from it."""
    pages = 0
    for each in family(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory() -> tuple[int, int]:
    """Bytes of this machine's memory that are free, and all of them."""
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return values["MemAvailable"], values["MemTotal"]
