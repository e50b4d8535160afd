"""Snakemake at work, shown: all that it and the jobs say goes to a file, and what is shown is read
from the store, as `diffaccel status` does."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.machine import jobs, stopping
from diffaccel.report import table as report
from diffaccel.run import slurm
from diffaccel.run.reader import Reader
from diffaccel.run.shown import REFRESH, Shown, terminal

log = logging.getLogger(__name__)

LOGS = Path(".snakemake") / "log"
HEARD = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
GRACE = 15.0
"""Seconds in which snakemake must end once it is told to stop; then it is killed."""
TAIL = 15
"""Lines of what snakemake said that are shown where it failed and no job did."""
_DEATH_SIGNAL = 1


def followed(command: Sequence[str], lock: int) -> int:
    """Starts snakemake, shows what it does until it ends, and what came of it.

    Args:
        lock: descriptor of the lock that it keeps as long as it lives.

    Returns:
        Its exit status, as a shell says it.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    said = LOGS / f"{time.strftime('%Y-%m-%dT%H%M%S')}.{os.getpid()}.diffaccel.log"
    # Signals are waited for, not handled: nothing is torn in the middle of a line.
    heard = {each for each in HEARD if signal.getsignal(each) != signal.SIG_IGN}  # nohup
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    try:
        with said.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {jobs.FOLLOWED: str(said.absolute())},
                pass_fds=[lock],
                preexec_fn=_begin,
            )
        _Following(process, said, heard).to_the_end()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = process.returncode
    return 128 - code if code < 0 else code


def _begin() -> None:
    """In snakemake's process: it dies with the one that shows it, as if it were that."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)


class _Following:
    """Snakemake, from its start to its end.

    Args:
        said: the file with all that it says.
        heard: the signals that are waited for.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], said: Path, heard: set[signal.Signals]
    ) -> None:
        self._process, self._said, self._heard = process, said, heard
        self._store: Path | None = None
        self._shown: Shown | None = None
        self._relayed = 0
        self._blind = False
        self._stopped: float | None = None

    def to_the_end(self) -> None:
        """Shows what it does, passes on what asks it to stop, and shows what came of it."""
        try:
            while self._process.poll() is None:
                heard = signal.sigtimedwait(self._heard, REFRESH)
                if heard is not None and heard.si_signo != signal.SIGCHLD:
                    self._pass_on(heard)
                self._kill_late()
                self._try_to_refresh()
            self._try_to_refresh()
        finally:
            if self._shown is not None:
                self._shown.close()
        try:
            self._show_end()
        except InputError as error:  # a result that cannot be read is no end of the run
            log.error("%s", error)

    def _try_to_refresh(self) -> None:
        """Shows what there is; whatever is wrong with that ends the view, and not the run."""
        try:
            self._refresh()
        except Exception as error:
            shown, self._shown, self._blind = self._shown, None, True
            with contextlib.suppress(Exception):
                if shown is not None:
                    shown.close()
                log.warning("nothing is shown any more: %r. The run goes on: %s", error, self._said)

    def _refresh(self) -> None:
        if self._blind:
            return
        told = self._said.with_suffix(jobs.TOLD)
        if self._store is None and told.exists():
            self._store = Path(os.path.relpath(told.read_text(encoding="utf-8")))
            told.unlink()
            reader = Reader(self._store)
            if reader.read().stages:
                self._shown = Shown(terminal(), reader)
        if self._shown is not None:
            self._shown.refresh()
        elif self._store is not None or self._process.returncode is not None:
            self._relay()

    def _relay(self) -> None:
        """Passes on what snakemake says, where it runs none of the jobs that are shown."""
        with self._said.open("rb") as file:
            file.seek(self._relayed)
            new = file.read()
        self._relayed += len(new)
        sys.stdout.write(new.decode(errors="replace"))
        sys.stdout.flush()

    def _pass_on(self, heard: signal.struct_siginfo) -> None:
        """Passes on what snakemake may not have got itself. A key that was pressed reaches both;
        before it starts jobs, a second interrupt would end it in the midst of its end."""
        if heard.si_signo != signal.SIGINT or heard.si_code <= 0:  # no key
            self._process.send_signal(heard.si_signo)
        if self._stopped is not None:
            return
        self._stopped = time.monotonic()
        if self._shown is not None:
            with contextlib.suppress(OSError):
                self._shown.say("stopping; what was measured is kept")

    def _kill_late(self) -> None:
        """Where it does not end though its jobs have. As long as it is cancelling jobs of Slurm's,
        it has its time."""
        if self._stopped is None or time.monotonic() - self._stopped < GRACE:
            return
        if slurm.are_left(Path.cwd()):
            return
        stopping.kill(self._process.pid)
        if self._store is not None:
            jobs.end(self._store, False)

    def _show_end(self) -> None:
        if self._store is None or (self._shown is None and not self._blind):
            return
        if self._stopped is not None and self._process.returncode != 0:
            if self._shown is not None:
                self._shown.show_stopped()
        elif self._process.returncode == 0:
            report.show_summary(self._store)
        elif any(report.failures(self._store)):
            report.show_failures(str(self._store), str(self._said))
        else:
            report.show_summary(self._store)
            lines = self._said.read_text(encoding="utf-8", errors="replace").splitlines()
            print(*lines[-TAIL:], f"The whole log: {self._said}", sep="\n", file=sys.stderr)
