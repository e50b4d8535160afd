"""Running code that is not trusted: the process of one script, and what it may take.

`mounts` says what the process sees, `limits` what it may take, and `protocol` how it is asked and
what is read of its answers.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffaccel.benchmark.judge import processes, seccomp
from diffaccel.benchmark.judge.limits import GIB, Limits
from diffaccel.benchmark.judge.mounts import (
    CODE,
    INSIDE,
    SCRIPT,
    WITNESS,
    SandboxError,
    SandboxMounts,
    confined,
    environment,
)
from diffaccel.benchmark.judge.processes import on_cores
from diffaccel.benchmark.judge.protocol import Disturbed, Exchange, Failed, readable

WATCH_SECONDS = 0.1
BLAMED = 0.5
"""Share of the memory that was free when it began that judged code must have for it to be to blame
that there is no more."""


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
        mounts: what it sees.
        limits: what it may take.
        sandboxed: false runs it with this user's rights and the limits of each process alone.
        wanted: what a `witness.Witness` sees to; None where there is no pipeline to watch.
    """

    def __init__(
        self,
        source: bytes,
        mounts: SandboxMounts,
        limits: Limits,
        *,
        sandboxed: bool = True,
        wanted: Mapping[str, Any] | None = None,
    ) -> None:
        self._source, self._mounts, self._limits, self._wanted = source, mounts, limits, wanted
        self._sandboxed = sandboxed
        self._stack = contextlib.ExitStack()
        self._ended: Failed | Disturbed | None = None
        self._free = processes.memory()[0]
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
            command, handles, place = *confined(folder, self._mounts, self._limits, stack), CODE
        else:
            command, handles, place = [sys.executable], [], str(folder)
        command += ["-I", f"{place}/{INSIDE.name}", json.dumps(self._order(place))]
        with on_cores(self._mounts.threads):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=handles,
                cwd="/" if self._sandboxed else None,
                # All that is in it can be read there, in /proc/1/environ.
                env=dict(environment(self._mounts, folder, sandboxed=self._sandboxed)),
                start_new_session=True,
            )
        stack.callback(self._close)
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        to, answers, self._said = (pipe.fileno() for pipe in pipes if pipe is not None)
        for handle in (to, answers, self._said):
            os.set_blocking(handle, False)
        self._exchange = Exchange(to, answers, lambda: self._ended, self._gone)
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        stack.callback(watcher.join)
        stack.callback(self._over.set)

    def _order(self, place: str) -> dict[str, Any]:
        """What the process is told.

        Args:
            place: folder that its files are in, there.
        """
        limits = self._limits.of_process(gpu=self._mounts.gpu)
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
        self._exchange.ask({"load": True}, b"R", 0, self._limits.load_seconds)

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
        return self._exchange.ask(
            request, b"I", expected, limit if seconds is None else min(seconds, limit)
        )

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
            used, (free, total) = processes.resident(self._process.pid), processes.memory()
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
        for pid in reversed(processes.family(self._process.pid)) if not self._sandboxed else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._sandboxed:
            for pid in processes.children(self._process.pid):
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
