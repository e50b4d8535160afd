"""What a run and its jobs leave on disk while they work, for whoever looks: on this machine or on
another that shares the store.

The run writes what it is to make into ``logs/run.json`` of its store. Each job writes beside its
log when it began, where, and how it ended, and keeps that file locked as long as it lives: what is
neither ended nor locked was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diffaccel.machine.watch import STOPS
from diffaccel.store.jsonio import (
    SCHEMA,
    RecordError,
    dumps,
    parse,
    read_record,
    to_json,
    write_record,
    write_text,
)

log = logging.getLogger(__name__)

RUN = Path("logs") / "run.json"
NOTES = Path("logs") / "run.log"
LOCK = ".lock"
"""File in a store that a run holds as long as it lives."""
STAGES = ("models", "baseline", "search", "code", "verify", "speed", "judge")
"""Kinds of jobs, in the order in which a configuration goes through them; each a folder of results.
"""
FEASIBLE = "feasible"
"""Folder of what says which tasks of a configuration get a script."""
OWN = "DIFFACCEL_JOB"
"""Environment variable of a job: the file that it notes things in."""
FOLLOWED = "DIFFACCEL_FOLLOWED"
"""Environment variable of a run that is shown by who started it: the file that gets all it says."""
TOLD = ".store"
"""Suffix of the file beside that which tells where the store is."""


@dataclass(frozen=True)
class Run:
    """A run, from its start on.

    Args:
        id: of this run and no other.
        started, ended: seconds since the epoch; ``ended`` is None until it is.
        well: whether all was made, once it ended.
        log: all that Snakemake says of it.
        configurations: short names of the accelerators of each cell that it is about, by
            configuration; of those, too, that were done before.
        jobs: what it is to make, by stage.
        loss_limit, loss_confidence: as configured.
        limits: by configuration what a candidate must keep besides, in words; the limit of the CLIP
            score is among them where it is its own.
        fewer_steps: short names of what is measured beside the cells.
        budgets: seconds that a job of a stage may measure, where that is limited; by stage.
        at_once: how many jobs that measure may run side by side; None: not known.
    """

    id: str
    host: str
    pid: int
    started: float
    log: str
    configurations: dict[str, list[list[str]]]
    jobs: dict[str, list[str]]
    loss_limit: float
    loss_confidence: str
    fewer_steps: list[str] | None = None
    budgets: dict[str, float] = field(default_factory=dict)
    limits: dict[str, list[str]] = field(default_factory=dict)
    at_once: int | None = None
    ended: float | None = None
    well: bool | None = None


@dataclass(frozen=True)
class Job:
    """One try at one job.

    Args:
        run: id of the run that it belongs to.
        device: what it computes on, once it has it.
        locked: whether its file is locked as long as it lives; not every file system can.
        most: candidates that each of its cells may evaluate, by slug; of a search.
        reason: why it did not end well.
    """

    stage: str
    name: str
    run: str
    host: str
    pid: int
    started: float
    log: str
    locked: bool = True
    device: str | None = None
    most: dict[str, int] = field(default_factory=dict)
    ended: float | None = None
    status: Literal["running", "done", "failed", "stopped"] = "running"
    reason: str = ""


def begin(
    store: Path,
    wanted: Iterable[str],
    missing: Iterable[str],
    said: str,
    *,
    configurations: Mapping[str, list[list[str]]],
    **about: Any,
) -> None:
    """Notes that a run begins, and where warnings of it go.

    Args:
        wanted: all files that the run is about, as far as its plan knows them.
        missing: those of them that it is to make.
        said: the file with all that Snakemake says.
        configurations: short names of the accelerators of each cell of the experiment, by
            configuration.
        about: the rest of `Run`.
    """
    every, jobs = _by_stage(store, wanted), _by_stage(store, missing)
    if (store / "summary.csv").as_posix() in set(wanted):
        # Scripts are known once the tasks are answered, and are then verified.
        verified = {*jobs.get("verify", []), *jobs.get(FEASIBLE, [])}
        jobs["verify"] = sorted(verified)
    about_these = {*every.get("search", []), *every.get("baseline", [])}
    now, host, pid = time.time(), socket.gethostname(), os.getpid()
    run = Run(
        id=f"{host}-{pid}-{now:.3f}",
        host=host,
        pid=pid,
        started=now,
        log=os.path.abspath(said),
        configurations={
            slug: cells for slug, cells in configurations.items() if slug in about_these
        },
        jobs=jobs,
        **about,
    )
    write_record(store / RUN, run)
    for notes in (logging.FileHandler(store / NOTES, "w", "utf-8"), logging.StreamHandler()):
        notes.setLevel(logging.WARNING)
        logging.getLogger("diffaccel").addHandler(notes)
    if shown := os.environ.get(FOLLOWED):
        write_text(Path(shown).with_suffix(TOLD), str(store.absolute()))


def _by_stage(store: Path, files: Iterable[str]) -> dict[str, list[str]]:
    """Names of the jobs that make files, by stage."""
    found: dict[str, list[str]] = {}
    for path in map(Path, files):
        made = path.suffix in (".json", ".py", ".txt") and path.stem != "misunderstood"
        if made and path.parent.parent == store and path.parent.name in (*STAGES, FEASIBLE):
            found.setdefault(path.parent.name, []).append(path.stem)
    return {stage: sorted(set(names)) for stage, names in found.items()}


def end(store: Path, well: bool) -> None:
    """Notes that the run ended."""
    with contextlib.suppress(RecordError, OSError):
        run = read_record(Run, store / RUN)
        write_record(store / RUN, dataclasses.replace(run, ended=time.time(), well=well))


class _Mark:
    """A job's file. It is rewritten in place: a file that takes its place would have no lock."""

    def __init__(self, path: Path, job: Job) -> None:
        # Another try that still lives keeps its own.
        path.unlink(missing_ok=True)
        self._file = path.open("x+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            job = dataclasses.replace(job, locked=False)
        self._path = path
        write_job(path, job)

    def end(self, status: str, reason: str) -> None:
        with contextlib.suppress(OSError, RecordError):
            if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                change(self._path, ended=time.time(), status=status, reason=reason)
        self._file.close()


def write_job(path: Path, job: Job) -> None:
    """Writes a job's file in place."""
    with path.open("r+", encoding="utf-8") as file:
        file.write(dumps({"schema": SCHEMA, **to_json(job)}))
        file.truncate()


def read_job(path: Path) -> Job:
    """Raises RecordError or OSError where it is not whole, e.g. while it is written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError("of another version")
    except (ValueError, AttributeError, KeyError) as error:
        raise RecordError(f"{path}: {error}") from None
    return parse(Job, content, str(path))


def change(path: Path, **changes: Any) -> None:
    """Rewrites a job's file with some things changed."""
    write_job(path, dataclasses.replace(read_job(path), **changes))


def note(**changes: Any) -> None:
    """Notes something about the job that this process, or the one that watches it, is; nothing
    where no run started it."""
    if path := os.environ.get(OWN):
        with contextlib.suppress(OSError, RecordError):
            change(Path(path), **changes)


@contextlib.contextmanager
def noted(path: Path | None) -> Iterator[None]:
    """The life of a job, noted beside its log where a run began in its store.

    Args:
        path: the log.
    """
    mark = _begun(path)
    if mark is None or path is None:
        yield
        return
    status, reason = "failed", ""
    try:
        yield
        status = "done"
    except (SystemExit, KeyboardInterrupt) as error:
        code = 0 if isinstance(error, SystemExit) and not error.code else _status(error)
        number = code - 128
        if code == 0:
            status = "done"
        elif number in STOPS:
            status, reason = "stopped", f"stopped by {signal.Signals(number).name}"
        elif number in set(signal.Signals):
            reason = f"killed by {signal.Signals(number).name}"
        raise
    finally:
        mark.end(status, "" if status == "done" else reason or last_line(path))
        os.environ.pop(OWN, None)


def _status(error: SystemExit | KeyboardInterrupt) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return error.code if isinstance(error.code, int) else 1


def _begun(path: Path | None) -> _Mark | None:
    if path is None or path.parent.name not in STAGES:
        return None
    store = path.parent.parent.parent
    try:
        run = read_record(Run, store / RUN)
        own = path.with_suffix(".json")
        here = (socket.gethostname(), os.getpid(), time.time())
        mark = _Mark(own, Job(path.parent.name, path.stem, run.id, *here, str(path)))
    except (RecordError, OSError):
        return None
    os.environ[OWN] = str(own.absolute())
    return mark


def last_line(path: Path) -> str:
    """The last that a job said: why it failed."""
    silent = "it said nothing: killed, or out of memory or of time"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return silent
    return (lines or [silent])[-1]


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock on a file. It is looked at for no longer than it takes."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
