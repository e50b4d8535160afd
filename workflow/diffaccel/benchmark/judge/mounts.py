"""What is in a sandbox: files that judged code sees, its variables, bubblewrap's command."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diffaccel.benchmark.judge import inside, seccomp, witness
from diffaccel.benchmark.judge.limits import Limits
from diffaccel.errors import InputError

INSIDE, WITNESS = Path(inside.__file__), Path(witness.__file__)
SCRATCH = "/scratch"
"""The only folder there that can be written to."""
CODE = "/judged"
"""Where the script, and what runs it, are there."""
SCRIPT = "script.py"
PROGRAMS = "/usr/bin:/bin"
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
DETAILS = ("/etc/ld.so.cache", "/etc/alternatives", "/sys/devices/system")
NVIDIA = ("/dev/nvidia*", "/dev/nvidia-caps", "/sys/module/nvidia*", "/sys/bus/pci", "/sys/devices")


class SandboxError(InputError):
    """No sandbox can be had here; says why and what to do."""


@dataclass(frozen=True)
class SandboxMounts:
    """What is in a sandbox besides Python and the system's programs.

    Args:
        readable: path there -> path here, of folders and files that can be read.
        gpu: whether it has the GPUs.
        environment: variables on top of the few that all have.
        threads: CPU cores that it computes on; 0 is all of this process's.
    """

    readable: Mapping[str, Path] = field(default_factory=dict)
    gpu: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0


def confined(
    folder: Path, mounts: SandboxMounts, limits: Limits, stack: contextlib.ExitStack
) -> tuple[list[str], list[int]]:
    """The command that runs Python in a sandbox, and the files that it reads while starting."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("there is no bubblewrap (bwrap) on this machine")
    command = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session"]
    command += ["--hostname", "judged"]
    if os.geteuid() == 0:  # who becomes a user of its own before the script is read
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    command += _file_system(folder, mounts, limits)
    handles = []
    program_of_filter = seccomp.program()
    if program_of_filter is not None:
        (folder / "rules").write_bytes(program_of_filter)
        rules = stack.enter_context((folder / "rules").open("rb"))
        handles.append(rules.fileno())
        command += ["--seccomp", str(rules.fileno())]
    return [*command, "--chdir", CODE, "--", sys.executable], handles


def _file_system(folder: Path, mounts: SandboxMounts, limits: Limits) -> list[str]:
    """The file system of a sandbox: what is not named here is not there."""
    binds: dict[str, Path] = {}
    options: list[str] = []
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), name]
        elif path.exists():
            binds[name] = path
    for name in (*DETAILS, *_python()):
        if Path(name).exists():
            binds[name] = Path(name)
    binds |= {f"{CODE}/{name}": folder / name for name in (SCRIPT, INSIDE.name, WITNESS.name)}
    binds |= mounts.readable
    options += ["--dev", "/dev"]
    devices = [each for glob in NVIDIA for each in Path("/").glob(glob[1:])] if mounts.gpu else []
    for made in _above([*binds, SCRATCH, *map(str, devices)]):
        options += ["--dir", made]
    # Folders before what lies in them.
    for name, path in sorted(binds.items()):
        options += ["--ro-bind", str(path), name]
    for device in devices:
        options += ["--dev-bind" if device.parts[1] == "dev" else "--ro-bind", *[str(device)] * 2]
    options += ["--proc", "/proc"]
    options += ["--perms", "0777", "--size", str(limits.scratch), "--tmpfs", SCRATCH]
    return [*options, "--remount-ro", "/dev", "--remount-ro", "/"]


def _above(paths: Sequence[str]) -> list[str]:
    """Folders that paths lie in, the outer ones first."""
    found = {str(parent) for path in paths for parent in Path(path).parents}
    return sorted(found - {"/", "/dev", "/proc", "/sys"})


def _python() -> list[str]:
    """Folders of this Python and of its packages.

    Raises:
        SandboxError: the home folder is in one of them.
    """
    found = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    folders = {os.path.realpath(each) for each in found} | found
    for folder in folders:
        if Path.home().is_relative_to(folder):
            raise SandboxError(
                f"Python lies in {folder}, and so does your home folder, which judged code must "
                "not see: use a Python or a virtual environment in a folder of its own"
            )
    return sorted(each for each in folders if not each.startswith("/usr"))


def environment(
    mounts: SandboxMounts, folder: Path, *, sandboxed: bool
) -> Iterator[tuple[str, str]]:
    """Few variables, and none of this process's."""
    scratch = SCRATCH if sandboxed else str(folder)
    yield from {"HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "LOGNAME": "judged"}.items()
    yield "PATH", os.pathsep.join([str(Path(sys.executable).parent), PROGRAMS])
    yield "HF_HUB_OFFLINE", "1"
    yield "PYTHONDONTWRITEBYTECODE", "1"
    if mounts.threads:
        yield "OMP_NUM_THREADS", str(mounts.threads)
    yield from mounts.environment.items()
