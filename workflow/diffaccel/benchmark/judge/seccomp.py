"""System calls that judged code does without: a filter that the kernel runs before each call.

Refused are calls that look into other processes, hide memory from its limits, leave the CPU cores
that both sides were given, open sockets other than local ones, or reach parts of the kernel that
generating images has no use for. The filter is a classic BPF program (seccomp(2), bpf(4) of Linux).
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

CALLS: dict[str, tuple[int, int]] = {
    # Other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # Memory that no process holds, and that its limits would not count.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # More of the processor than the other side has.
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # Parts of the kernel.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "syslog": (103, 116),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
}
"""Name -> number on x86-64 and on 64-bit ARM."""
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> its column above, and the kernel's number of it (linux/audit.h)."""
NAMESPACES = 0x7E020080
"""Flags of clone(2) that make namespaces."""
X32 = 0x40000000
"""Bit of the numbers of a second set of calls on x86-64."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16
ALLOW, KILL = 0x7FFF0000, 0x80000000


def _refuse(error: int) -> int:
    return 0x00050000 | error


def program(machine: str | None = None) -> bytes | None:
    """The filter, as ``bwrap --seccomp`` reads it; None on a machine whose numbers are not known.

    Args:
        machine: as ``platform.machine`` names it; this one without.
    """
    known = MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    column, number = known
    steps = [(_LOAD, 0, 0, _MACHINE), *_unless(_EQUAL, number, KILL), (_LOAD, 0, 0, _NUMBER)]
    if column == 0:
        steps += _when(_AT_LEAST, X32, _refuse(errno.ENOSYS))
    for calls in CALLS.values():
        steps += _when(_EQUAL, calls[column], _refuse(errno.EPERM))
    # Its flags lie in memory that a filter cannot read; without it, libraries use the older one.
    steps += _when(_EQUAL, CLONE3[column], _refuse(errno.ENOSYS))
    local = [(_LOAD, 0, 0, _FIRST_ARGUMENT), *_unless(_EQUAL, socket.AF_UNIX, _refuse(errno.EPERM))]
    own = [(_LOAD, 0, 0, _FIRST_ARGUMENT), *_when(_ANY_BIT, NAMESPACES, _refuse(errno.EPERM))]
    for call, checks in ((SOCKET, local), (CLONE, own)):
        checks.append((_RETURN, 0, 0, ALLOW))
        steps += [(_EQUAL, 0, len(checks), call[column]), *checks]
    steps.append((_RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


Step = tuple[int, int, int, int]


def _when(test: int, value: int, then: int) -> list[Step]:
    return [(test, 0, 1, value), (_RETURN, 0, 0, then)]


def _unless(test: int, value: int, then: int) -> list[Step]:
    return [(test, 1, 0, value), (_RETURN, 0, 0, then)]
