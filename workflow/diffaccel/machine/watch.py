"""A job that outlives its candidates.

The work is done in a process of its own. What kills that process, or does not come back from a call
in time, is a failure of the candidate that was being called, and not of the job: the work is
started once more and told not to call that one again. Nothing but Linux is asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

log = logging.getLogger(__name__)

PLAIN = ""
"""Stands for the baseline pipeline, which no other can replace."""
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
"""What a process is killed by for what it did itself."""
DEATHS = 2
"""Times that a process is killed, or the device lost, in a call of a candidate before that is held
against it: the first may have been another's doing, a machine short of memory, say."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DEATH_SIGNAL = 1


@dataclass(frozen=True)
class Failure:
    """Why a candidate cannot be chosen.

    Args:
        passing: whether that may pass, so that it is tried again by the next run.
    """

    reason: str
    passing: bool = False

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Watch:
    """What the work tells who watches it.

    Args:
        blamed: by candidate, why it must not be called.
        seconds: that a call of a candidate may take.
        pipe: where it is told; None: nobody watches.
    """

    blamed: Mapping[str, Failure] = field(default_factory=dict)
    seconds: float = 600.0
    pipe: int | None = None

    def within(self, seconds: float) -> Watch:
        """The same with another limit."""
        return replace(self, seconds=seconds)

    @contextlib.contextmanager
    def calling(self, candidate: str) -> Iterator[None]:
        """The time of one call. One of the baseline pipeline takes as long as it takes."""
        seconds = None if candidate == PLAIN else self.seconds
        self._say({"candidate": candidate, "seconds": seconds})
        try:
            yield
        finally:
            self._say(None)

    def lost(self, candidate: str, reason: str) -> None:
        """The device was lost in a call: the work cannot go on in this process."""
        self._say({"candidate": candidate, "seconds": None, "lost": reason})

    def _say(self, what: object) -> None:
        if self.pipe is not None:
            os.write(self.pipe, json.dumps(what).encode() + b"\n")


@dataclass
class _End:
    """How the work ended.

    Args:
        candidate: in whose call, if it was in one.
        status: as `os.waitpid` gives it.
        late: the limit that a call went beyond.
        lost: what was said of the device, where it was lost in the call.
    """

    candidate: str | None
    status: int
    late: float | None = None
    lost: str | None = None

    @property
    def signal(self) -> signal.Signals | None:
        code = os.waitstatus_to_exitcode(self.status)
        return signal.Signals(-code) if code < 0 else None

    @property
    def sure(self) -> bool:
        """Whether it was the candidate; else it may have been another, a machine short of memory,
        say, or the device."""
        own = self.lost is None and (self.signal is None or self.signal in CRASHES)
        return self.late is not None or own

    @property
    def failure(self) -> Failure:
        """What is held against the candidate. A limit of time depends on who else computes."""
        return Failure(self.reason, passing=self.late is not None or not self.sure)

    @property
    def reason(self) -> str:
        """What the candidate did."""
        if self.late is not None:
            return f"a call took more than {self.late:.0f} s"
        if self.lost is not None:
            return f"the device was lost in a call: {self.lost}"
        how = f"signal {self.signal.name}" if self.signal else "an exit"
        return f"a call ended the process, by {how}"


def watched(work: Callable[[Watch], None]) -> None:
    """Has work done in a process of its own, again where a candidate ended it.

    Call it before torch is imported, with one thread: a CUDA context does not survive a fork.

    Raises:
        SystemExit: the work ended with another status than 0.
    """
    blamed: dict[str, Failure] = {}
    deaths: dict[str, int] = {}
    while True:
        end = _once(work, Watch(blamed))
        if end.candidate is None or end.signal in STOPS:
            break
        if end.candidate == PLAIN:
            log.error("the baseline pipeline itself: %s", end.reason)
            break
        deaths[end.candidate] = deaths.get(end.candidate, 0) + 1
        if end.sure or deaths[end.candidate] == DEATHS:
            blamed[end.candidate] = end.failure
        log.warning("started again: %s", end.reason)
    if end.signal is not None:
        # As a shell says it, which is what started this.
        raise SystemExit(128 + end.signal)
    if code := os.waitstatus_to_exitcode(end.status):
        raise SystemExit(code)


def _once(work: Callable[[Watch], None], watch: Watch) -> _End:
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    # Until both know what to do about them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(work, replace(watch, pipe=writer), parent)
    os.close(writer)
    with open(reader, "rb", buffering=0) as told, _stopping(child):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        return _wait(child, told.fileno())


def _work(work: Callable[[Watch], None], watch: Watch, parent: int) -> NoReturn:
    """Does it and ends the process. It does not outlive who watches it, and is never asked to
    clean up: what it writes is whole at any time."""
    for stop in STOPS:
        signal.signal(stop, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    status = 1
    try:
        if os.getppid() == parent:
            work(watch)
            status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        log.exception("failed")
    finally:
        logging.shutdown()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


@contextlib.contextmanager
def _stopping(child: int) -> Iterator[None]:
    """Passes on what asks this process to stop."""

    def pass_on(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(child, signal.SIGTERM)

    before = {stop: signal.signal(stop, pass_on) for stop in STOPS}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def _wait(child: int, told: int) -> _End:
    """Waits for the end of a process, or ends it where a call takes too long."""
    ended = os.pidfd_open(child)
    candidate: str | None = None
    limit, deadline, late, rest = None, None, None, b""
    lost: str | None = None
    try:
        while True:
            left: float | None = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([told, ended], [], [], left)
            if told in ready and (heard := os.read(told, 65536)):
                *whole, rest = (rest + heard).split(b"\n")
                if whole and (last := json.loads(whole[-1])) is not None:
                    candidate, limit = last["candidate"], last["seconds"]
                    lost = last.get("lost")
                    deadline = None if limit is None else time.monotonic() + limit
                elif whole:
                    candidate = deadline = None
            elif ended in ready:
                return _End(candidate, os.waitpid(child, 0)[1], late, lost)
            elif not ready:
                late, deadline = limit, None
                os.kill(child, signal.SIGKILL)
    finally:
        os.close(ended)
