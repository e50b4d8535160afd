"""What happens in a run, as a line for each thing that matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diffaccel.machine.jobs import Job
from diffaccel.report.words import ONE, configuration_title, duration, named, verified
from diffaccel.run.progress import Progress, platform
from diffaccel.run.texts import failure, left, shortened, stages
from diffaccel.store.jsonio import RecordError, read_fields


class Events:
    """What happened between two readings, a line each."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str, float, str]] = set()
        self._notes = 0
        self._began = False

    def news(self, progress: Progress) -> Iterator[str]:
        """What was not said before."""
        if not self._began:
            self._began = True
            yield self._first(progress)
        yield from progress.notes[self._notes :]
        self._notes = len(progress.notes)
        for job in progress.ended:
            if self._is_new(job):
                yield _done(progress, job)
        for job in progress.failed:
            if self._is_new(job):
                yield f"failed: {failure(job)}"

    def _first(self, progress: Progress) -> str:
        there = f", {progress.cells_done} of them there already" if progress.cells_done else ""
        many = "cell" if progress.cells == 1 else "cells"
        cells = f"{progress.cells} {many}{there}; " if progress.cells else ""
        time_left = "" if progress.left is None else f"; left: {left(progress.left)}"
        limits = [
            f"{ONE[stage].removesuffix(' of')} at most {duration(seconds)} ({stage}.budget)"
            for stage, seconds in progress.budgets.items()
        ]
        limited = f"; each {', each '.join(limits)}" if limits else ""
        return (
            f"run on {platform(progress)}: {cells}{stages(progress)}{time_left}{limited}; log: "
            f"{shortened(progress.log)}"
        )

    def _is_new(self, job: Job) -> bool:
        key = (job.stage, job.name, job.started, job.status)
        new = key not in self._said
        self._said.add(key)
        return new


def heartbeat(progress: Progress) -> str:
    """How far it is, in a line."""
    cells = [
        f"{progress.cells_done} of {progress.cells} cells",
        f"{progress.measured} candidates measured",
        f"best {progress.best.speedup:.2f}x" if progress.best else "nothing timed yet",
    ]
    rest = "" if progress.left is None else f"; left: {left(progress.left)}"
    return f"{', '.join(cells) if progress.cells else stages(progress)}{rest}"


def _done(progress: Progress, job: Job) -> str:
    took = duration((job.ended or job.started) - job.started)
    if job.stage == "search":
        found = [cell for cell in progress.configurations.get(job.name, ()) if not cell.fewer_steps]
        bounds = ", ".join(
            f"{cell.accelerators} {f'{cell.best.speedup:.2f}x' if cell.best else 'none'}"
            for cell in found
        )
        count = f"{progress.cells_done} of {progress.cells} cells"
        return f"searched {configuration_title(job.name)} in {took}: {bounds} ({count})"
    if job.stage == "verify":
        return f"verified {configuration_title(job.name)} in {took}: {_verified(progress, job)}"
    return f"{named(job.stage, job.name)}: done in {took}"


def _verified(progress: Progress, job: Job) -> str:
    try:
        path = Path(progress.store) / "verify" / f"{job.name}.json"
        verdicts = read_fields(path)["results"]
        asked = verified([result["outcome"] for result in verdicts], "as fast as was asked")
        found = verified([result["kept"] for result in verdicts], "as fast as when they were found")
    except (RecordError, KeyError, TypeError):
        return "its record cannot be read"
    return f"{len(verdicts)} scripts, {asked}, {found}"
