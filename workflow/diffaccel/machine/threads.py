"""How many CPU threads a job computes on: those of all jobs together are no more than the cores.

A job computes on as many as its model says (``threads``; 0 is all that it is given), and never on
more than it is given: by a rule, which reserves them of Snakemake's cores and tells them in
``OMP_NUM_THREADS``, or by who sets that; else by the machine. On a CPU it also waits for as many
cores that no other job holds (`diffaccel.machine.devices.hold_device`), whoever started that.
"""

from __future__ import annotations

import os
from pathlib import Path

GIVEN = "OMP_NUM_THREADS"
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def of(wanted: int, *, gpu: bool = False) -> int:
    """Threads of a job in this process.

    Args:
        wanted: as its model says; 0 is all that it is given.
        gpu: whether it computes on a GPU, which one thread keeps busy.
    """
    given = min(_given() or cores(), cores())
    return min(wanted or (1 if gpu else given), given)


def reserved(wanted: int, given: int | None, *, gpu: bool = False) -> int:
    """Threads that a rule reserves for a job.

    Args:
        given: cores of the run; None where each job has those of the machine that it gets.
    """
    return wanted or (1 if gpu else given or 1)


def use(count: int) -> None:
    """Has torch compute on so many in this process."""
    import torch

    torch.set_num_threads(count)


def cores() -> int:
    """Cores that this process may use."""
    return len(numbers())


def numbers() -> list[int]:
    """The same, by number. Of a group of processes that may use the time of so many cores, and not
    so many cores, as a container's may, the first."""
    allowed = sorted(os.sched_getaffinity(0))
    quota = _quota()
    return allowed if quota is None else allowed[: max(1, int(quota))]


def _given() -> int | None:
    """What the environment says, also where it says more for parts within parts (``4,2``)."""
    first = os.environ.get(GIVEN, "").partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else None


def _quota() -> float | None:
    """Cores whose time this process and those of its groups may use, if that is limited."""
    found = []
    for line in _read(_OWN_GROUPS).splitlines():
        _, kinds, name = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        root = _CGROUPS / kinds if kinds else _CGROUPS
        group = root / name.lstrip("/")
        found += [_limit(each) for each in (group, *group.parents) if each.is_relative_to(root)]
    return min((limit for limit in found if limit is not None), default=None)


def _limit(group: Path) -> float | None:
    """Of one group, of either version of Linux's."""
    both = _read(group / "cpu.max").split() or [
        _read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    ]
    if len(both) == 2 and all(part.isdigit() for part in both):
        return int(both[0]) / int(both[1])
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
