"""How far a run is: the records of it, and which store's run is meant.

`diffaccel.run.reader` makes them from what is on disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diffaccel.errors import InputError
from diffaccel.machine import jobs
from diffaccel.machine.jobs import Job


@dataclass(frozen=True)
class Best:
    """The fastest that was timed with a loss below the limit."""

    configuration: str
    accelerators: str
    speedup: float
    loss: float


@dataclass(frozen=True)
class CellProgress:
    """How far a cell is.

    Args:
        accelerators: as users name them.
        measured: candidates that were evaluated.
        most: how many are evaluated for its bound at most; more may be for its tasks. None: not
            known.
        done: whether its configuration was searched to the end.
        fewer_steps: whether it is what the others are compared with.
    """

    accelerators: str
    measured: int
    most: int | None
    best: Best | None
    done: bool
    fewer_steps: bool = False


@dataclass(frozen=True)
class StageProgress:
    """Jobs of a stage: how many there are, as far as that is known yet, and what became of them."""

    stage: str
    total: int
    done: int
    running: int
    failed: int


@dataclass(frozen=True)
class Left:
    """Seconds that a run still takes.

    Args:
        seconds: of what there is ground for, from what the like took; None: there is none.
        unknown: stages that are still to come and of which nothing was ever done here.
    """

    seconds: float | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """A run, as it is now.

    Args:
        state: ``none``: nothing ever ran in this store; ``killed``: it never said that it ended,
            and is not there any more.
        since: seconds since the epoch at which it started.
        seconds: that it has gone on, or went on.
        cells, cells_done: of all configurations that it is about, and of those that were searched
            to the end, before or in this run.
        measured: candidates evaluated in these cells.
        left: None unless it goes on.
        configurations: how far their cells are.
        working: jobs that run now.
        ended: jobs that ended well, oldest first; but scripts, of which there are many.
        failed: the last tries of those that failed. One that was asked to stop did not: the run
            stops, too, or tries it again.
        notes: what the run warned of.
        budgets: seconds that a job of a stage may measure, where that is limited; by stage.
    """

    store: str
    state: Literal["none", "going", "done", "failed", "killed"]
    host: str = ""
    log: str = ""
    since: float = 0.0
    seconds: float = 0.0
    cells: int = 0
    cells_done: int = 0
    measured: int = 0
    best: Best | None = None
    left: Left | None = None
    stages: tuple[StageProgress, ...] = ()
    configurations: dict[str, tuple[CellProgress, ...]] = field(default_factory=dict)
    working: tuple[Job, ...] = ()
    ended: tuple[Job, ...] = ()
    failed: tuple[Job, ...] = ()
    notes: tuple[str, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)


def find(results: Path) -> Path:
    """The store whose run is looked at: of those in a folder of results, or of that folder itself,
    one with a run that goes on, else the one with the latest.

    Raises:
        InputError: there is no such folder.
    """
    if not results.is_dir():
        raise InputError(f"{results}: there is no such folder, so nothing has run there yet")
    stores = [path.parent.parent for path in (*results.glob("logs/run.json"), *_runs_in(results))]
    going = [store for store in stores if jobs.is_held(store / jobs.LOCK)]
    newest = sorted(stores, key=lambda store: (store / jobs.RUN).stat().st_mtime)
    return (going or newest[::-1] or [results])[0]


def _runs_in(results: Path) -> Iterator[Path]:
    return results.glob(f"*/{jobs.RUN}")


def platform(progress: Progress) -> str:
    """The hardware that a store is of."""
    return os.path.basename(os.path.abspath(progress.store))
