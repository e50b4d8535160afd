"""What judged code may take of this machine."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30

FLOOR = 0.04
"""Share of the machine's memory that is kept free: below it, judged code is ended."""


@dataclass(frozen=True)
class Limits:
    """What judged code may take.

    Args:
        memory: bytes of all its processes together.
        scratch: bytes of its scratch folder, which is memory, too.
        processes: at once, threads among them.
        load_seconds: for reading the script and loading its pipeline.
        call_seconds: for one answer; with `load_seconds` the only limit of time, since the cores of
            a machine and the number of calls multiply what a process spends of the processor's.
        floor: share of the machine's memory below which it is ended; 0 for our own code, which goes
            on while others take what they may.
    """

    memory: int = 16 * GIB
    scratch: int = GIB
    processes: int = 1024
    load_seconds: float = 900.0
    call_seconds: float = 600.0
    floor: float = FLOOR

    def of_process(self, *, gpu: bool) -> dict[str, int]:
        """What the kernel holds each process to. A GPU's driver reserves more addresses than there
        is memory: there, memory is only watched."""
        limits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": self.scratch,
            "RLIMIT_NOFILE": 4096,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_MEMLOCK": 64 * 2**20,
        }
        return limits if gpu else limits | {"RLIMIT_DATA": self.memory}
