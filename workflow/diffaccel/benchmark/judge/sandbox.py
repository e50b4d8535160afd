"""Running code that is not trusted, and reading what it answers.

The boundary: `Sandbox.ask` writes one line to the code and reads exactly as many bytes as were
asked for, or one short message. Nothing that comes back is parsed, unpickled or run, and no length
that the code claims is believed beyond that of a message. The clock is read here, before the
request is written and after the last byte was read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffaccel.benchmark.judge import inside, seccomp, witness
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
NONCE = 16
WATCH_SECONDS = 0.1
FLOOR = 0.04
"""Share of the machine's memory that is kept free: below it, judged code is ended."""
BLAMED = 0.5
"""Share of the memory that was free when it began that judged code must have for it to be to blame
that there is no more."""
GIB = 2**30


class SandboxError(InputError):
    """No sandbox can be had here; says why and what to do."""


class Failed(Exception):
    """What the judged code did wrong, in words; they may quote it."""


class Disturbed(Exception):
    """What became of it through no fault of its own, in words."""


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


@functools.cache
def how(sandboxed: bool) -> str:
    """What judged code is run in, e.g. ``bubblewrap 0.8.0``; a sandbox is tried once.

    Raises:
        SandboxError: there is none, or it does not work here.
    """
    if not sandboxed:
        return "none"
    advice = (
        "Judged code is not trusted, and is not run without a sandbox. Install bubblewrap (Debian: "
        "apt-get install bubblewrap) where user namespaces are allowed; or, if you trust the code "
        "as your own, set judge.sandbox to false (diffaccel judge --unsandboxed)"
    )
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(f"there is no bubblewrap (bwrap) on this machine. {advice}")
    try:
        with Sandbox(
            b"def load_pipeline():\n    return None\n", SandboxMounts(), Limits()
        ) as tried:
            tried.load()
    except (Failed, Disturbed, OSError) as error:
        raise SandboxError(f"bubblewrap does not work here: {error}. {advice}") from None
    if not Path("/proc/thread-self/children").exists():
        raise SandboxError(f"the kernel does not tell whose memory is whose. {advice}")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    unfiltered = "" if seccomp.program() else ", without a filter of system calls"
    return version.stdout.strip() + unfiltered


class Sandbox:
    """A process that runs one script; a context manager, at whose end nothing of it is left.

    Args:
        source: of the script.
        room: what it sees.
        limits: what it may take.
        sandboxed: false runs it with this user's rights and the limits of each process alone.
        wanted: what a `witness.Witness` sees to; None where there is no pipeline to watch.
    """

    def __init__(
        self,
        source: bytes,
        room: SandboxMounts,
        limits: Limits,
        *,
        sandboxed: bool = True,
        wanted: Mapping[str, Any] | None = None,
    ) -> None:
        self._source, self._room, self._limits, self._wanted = source, room, limits, wanted
        self._sandboxed = sandboxed
        self._stack = contextlib.ExitStack()
        self._ended: Failed | Disturbed | None = None
        self._free = _memory()[0]
        self._over = threading.Event()

    def __enter__(self) -> Sandbox:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="judged-")))
        (folder / SCRIPT).write_bytes(self._source)
        for own in (INSIDE, WITNESS):
            shutil.copyfile(own, folder / own.name)
        folder.chmod(0o755)
        if self._sandboxed:
            command, handles, place = *_confined(folder, self._room, self._limits, stack), CODE
        else:
            command, handles, place = [sys.executable], [], str(folder)
        command += ["-I", f"{place}/{INSIDE.name}", json.dumps(self._order(place))]
        with _on_cores(self._room.threads):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=handles,
                cwd="/" if self._sandboxed else None,
                # All that is in it can be read there, in /proc/1/environ.
                env=dict(_environment(self._room, folder, sandboxed=self._sandboxed)),
                start_new_session=True,
            )
        stack.callback(self._close)
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._to, self._from, self._said = (pipe.fileno() for pipe in pipes if pipe is not None)
        for handle in (self._to, self._from, self._said):
            os.set_blocking(handle, False)
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        stack.callback(watcher.join)
        stack.callback(self._over.set)

    def _order(self, place: str) -> dict[str, Any]:
        """What the process is told.

        Args:
            place: folder that its files are in, there.
        """
        limits = self._limits.of_process(gpu=self._room.gpu)
        if not self._sandboxed:  # this user has other processes, which would count
            del limits["RLIMIT_NPROC"]
        own_user = self._sandboxed and os.geteuid() == 0
        return {
            "script": f"{place}/{SCRIPT}",
            "witness": f"{place}/{WITNESS.name}",
            "wanted": self._wanted and dict(self._wanted),
            "limits": limits,
            "user": 2**30 + secrets.randbelow(2**30) if own_user else None,
        }

    def load(self) -> None:
        """Reads the script and calls its ``load_pipeline``.

        Raises:
            Failed: it raised, ended, took too long, or answered something else.
        """
        self.ask({"load": True}, b"R", 0, self._limits.load_seconds)

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        size: tuple[int, int],
        seconds: float | None = None,
    ) -> tuple[bytearray, float]:
        """The bytes of an image a prompt, shape (n, height, width, 3), and the seconds until the
        last of them was here.

        Args:
            size: height and width, in pixels.
            seconds: that it may take, the limit of a call at most.

        Raises:
            Failed: as for `load`.
        """
        request = {"prompts": list(prompts), "seeds": list(seeds), "size": list(size)}
        expected = len(prompts) * size[0] * size[1] * 3
        limit = self._limits.call_seconds
        return self.ask(request, b"I", expected, limit if seconds is None else min(seconds, limit))

    def ask(
        self, request: Mapping[str, Any], kind: bytes, size: int, seconds: float
    ) -> tuple[bytearray, float]:
        """Sends a request and reads an answer of exactly this kind and size.

        Raises:
            Failed: what came is anything else, or did not come in time.
        """
        nonce = secrets.token_bytes(NONCE)
        line = json.dumps({"nonce": nonce.hex(), **request}).encode() + b"\n"
        start = time.perf_counter()
        deadline = start + seconds
        self._write(line, deadline)
        if self._read(NONCE, deadline) != nonce:
            raise Failed("it answered something that it was not asked for")
        answered = bytes(self._read(1, deadline))
        if answered == kind:
            body = self._read(size, deadline)
            return body, time.perf_counter() - start
        if answered == b"E":
            length = int.from_bytes(self._read(2, deadline), "big")
            text = self._read(min(length, inside.LONGEST_MESSAGE), deadline)
            raise Failed(readable(text))
        raise Failed("it answered something that it was not asked for")

    def _write(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._to, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self._to, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._gone() from None

    def _read(self, size: int, deadline: float) -> bytearray:
        """Exactly so many bytes."""
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            self._wait(self._from, select.POLLIN, deadline)
            try:
                count = os.readv(self._from, [rest])
            except BlockingIOError:
                continue
            if not count:
                raise self._gone()
            rest = rest[count:]
        return data

    def _wait(self, handle: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(handle, event)
        left = deadline - time.perf_counter()
        if left <= 0 or not poll.poll(left * 1000):
            raise Failed("it took too long")
        if self._ended is not None:
            raise self._ended

    def _gone(self) -> Failed | Disturbed:
        """Why there is no one at the other end."""
        if self._ended is not None:
            return self._ended
        self._kill()
        status = self._process.wait()
        said = b""
        with contextlib.suppress(BlockingIOError):
            said = os.read(self._said, 500)
        return Failed(f"it ended (status {status}){': ' if said else ''}{readable(said)}")

    def _watch(self) -> None:
        """Ends it where it takes too much memory."""
        while not self._over.wait(WATCH_SECONDS):
            used, (free, total) = _resident(self._process.pid), _memory()
            if used > self._limits.memory:
                most = self._limits.memory / GIB
                self._ended = Failed(f"it took more than {most:g} GiB of memory")
            elif free < self._limits.floor * total:
                self._ended = self._out_of_memory(used)
            if self._ended is not None:
                self._kill()
                return

    def _out_of_memory(self, used: int) -> Failed | Disturbed:
        if used >= BLAMED * self._free:
            return Failed("it took nearly all of the machine's memory")
        return Disturbed(
            f"the machine had no memory left, of which the script had {used / GIB:.1f} GiB"
        )

    def _kill(self) -> None:
        """Ends all of its processes: the first of the sandbox takes the others with it."""
        for pid in reversed(_family(self._process.pid)) if not self._sandboxed else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._sandboxed:
            for pid in _children(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._process.kill()

    def _close(self) -> None:
        self._kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def readable(text: bytes | bytearray) -> str:
    """Bytes of judged code as one line that a terminal may show."""
    decoded = bytes(text).decode("utf-8", errors="replace")
    line = " ".join(decoded.split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def _confined(
    folder: Path, room: SandboxMounts, limits: Limits, stack: contextlib.ExitStack
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
    command += _mounts(folder, room, limits)
    handles = []
    program_of_filter = seccomp.program()
    if program_of_filter is not None:
        (folder / "rules").write_bytes(program_of_filter)
        rules = stack.enter_context((folder / "rules").open("rb"))
        handles.append(rules.fileno())
        command += ["--seccomp", str(rules.fileno())]
    return [*command, "--chdir", CODE, "--", sys.executable], handles


def _mounts(folder: Path, room: SandboxMounts, limits: Limits) -> list[str]:
    """The file system of a sandbox: what is not named here is not there."""
    binds: dict[str, Path] = {}
    mounts: list[str] = []
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            mounts += ["--symlink", os.readlink(path), name]
        elif path.exists():
            binds[name] = path
    for name in (*DETAILS, *_python()):
        if Path(name).exists():
            binds[name] = Path(name)
    binds |= {f"{CODE}/{name}": folder / name for name in (SCRIPT, INSIDE.name, WITNESS.name)}
    binds |= room.readable
    mounts += ["--dev", "/dev"]
    devices = [each for glob in NVIDIA for each in Path("/").glob(glob[1:])] if room.gpu else []
    for made in _above([*binds, SCRATCH, *map(str, devices)]):
        mounts += ["--dir", made]
    # Folders before what lies in them.
    for name, path in sorted(binds.items()):
        mounts += ["--ro-bind", str(path), name]
    for device in devices:
        mounts += ["--dev-bind" if device.parts[1] == "dev" else "--ro-bind", *[str(device)] * 2]
    mounts += ["--proc", "/proc"]
    mounts += ["--perms", "0777", "--size", str(limits.scratch), "--tmpfs", SCRATCH]
    return [*mounts, "--remount-ro", "/dev", "--remount-ro", "/"]


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


def _environment(
    room: SandboxMounts, folder: Path, *, sandboxed: bool
) -> Iterator[tuple[str, str]]:
    """Few variables, and none of this process's."""
    scratch = SCRATCH if sandboxed else str(folder)
    yield from {"HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "LOGNAME": "judged"}.items()
    yield "PATH", os.pathsep.join([str(Path(sys.executable).parent), PROGRAMS])
    yield "HF_HUB_OFFLINE", "1"
    yield "PYTHONDONTWRITEBYTECODE", "1"
    if room.threads:
        yield "OMP_NUM_THREADS", str(room.threads)
    yield from room.environment.items()


@contextlib.contextmanager
def _on_cores(count: int) -> Iterator[None]:
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


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def _family(pid: int) -> list[int]:
    """A process and all that come from it."""
    found, queue = [pid], [pid]
    while queue:
        children = _children(queue.pop())
        found += children
        queue += children
    return found


def _resident(pid: int) -> int:
    """Bytes of memory of a process and all that come from it."""
    pages = 0
    for each in _family(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _memory() -> tuple[int, int]:
    """Bytes of this machine's memory that are free, and all of them."""
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return values["MemAvailable"], values["MemTotal"]
