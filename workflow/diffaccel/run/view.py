"""Showing how far a run is: as one view that is redrawn in place, or as a line for each thing that
matters where there is no terminal to redraw."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diffaccel.machine.jobs import Job
from diffaccel.report.words import ONE, configuration_title, duration, job_title, named, verified
from diffaccel.run.progress import CellProgress, Left, Progress, Reader, platform
from diffaccel.store.jsonio import RecordError, read_fields

REFRESH = 1.0
"""Seconds between two looks."""
SILENCE = 50.0
"""Seconds after which a line says how far it is where nothing else did."""
WIDTH = 100
"""Columns where there is no terminal."""
BAR = 30
SOME = 3
"""Failures at most that a view in a terminal shows; all are said above it, as are warnings."""
MANY = {
    "models": "models",
    "baseline": "baselines",
    "search": "searches",
    "code": "scripts",
    "verify": "verifications",
    "speed": "speeds",
    "judge": "judged",
}
DOING = {
    "models": "fetching",
    "baseline": "baseline of",
    "search": "searching",
    "code": "writing",
    "verify": "verifying the scripts of",
    "speed": "timing",
    "judge": "judging the scripts of",
}


def terminal() -> Console:
    """Where a run is shown: plain text where it is not live."""
    console = Console(stderr=True, highlight=False)
    return console if is_live(console) else Console(stderr=True, force_terminal=False)


def is_live(console: Console) -> bool:
    """Whether a view can be redrawn in place, and whoever looks wants that."""
    plain = console.is_dumb_terminal or bool(os.environ.get("NO_COLOR"))
    return console.is_terminal and not plain


def left(estimate: Left) -> str:
    """The time that is left, as far as there is ground to say."""
    if not estimate.unknown:
        return f"about {duration(estimate.seconds or 0.0)}"
    words = [ONE[stage].removesuffix(" of") for stage in estimate.unknown]
    unknown = (
        f"unknown before a first {' and '.join(filter(None, [', '.join(words[:-1]), words[-1]]))}"
    )
    if estimate.seconds is None:
        return unknown
    return f"more than {duration(estimate.seconds)}; the rest {unknown}"


def head(progress: Progress) -> str:
    """What the run does, in a line."""
    on = f"on {platform(progress)}, {progress.host}"
    went = duration(progress.seconds)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(progress.since))
    if progress.state == "none":
        return f"nothing has run in {progress.store} yet; `diffaccel run` starts"
    if progress.state == "going":
        return f"running {on}, for {went}"
    if progress.state == "done":
        return f"done: a run {on}, of {began}, in {went}"
    if progress.state == "failed":
        return f"ended, and not all is made: a run {on}, of {began}, after {went}"
    still = f"; {len(progress.working)} of its jobs go on" if progress.working else ""
    return (
        f"killed: a run {on}, of {began}, after about {went}{still}. What was measured is kept: "
        "`diffaccel run` goes on from there"
    )


def best(progress: Progress) -> str:
    """The best so far, in a line."""
    found = progress.best
    if found is None:
        return "none yet"
    where = f"{found.accelerators} on {configuration_title(found.configuration)}"
    return f"{found.speedup:.2f}x, loss {found.loss:+.1%}: {where}"


def stages(progress: Progress) -> str:
    """Jobs done of all, by stage."""
    return ", ".join(
        f"{MANY[s.stage]} {s.done} of {s.total}{f' ({s.failed} failed)' if s.failed else ''}"
        for s in progress.stages
    )


def failure(job: Job) -> str:
    """What failed, why, and which log says more."""
    return f"{named(job.stage, job.name)}: {job.reason} (log: {job.log})"


# ---- the view ----------------------------------------------------------------------------------


def evaluated(progress: Progress, console: Console | None = None) -> RenderableType:
    """The whole view.

    Args:
        console: into whose height it is to fit; None: it takes what it needs.
    """
    style = {"going": "bold", "done": "bold green", "none": ""}.get(progress.state, "bold red")
    top: list[RenderableType] = [Text(head(progress), style=style)]
    if progress.state == "none":
        return top[0]
    top.append(_details(progress))
    lost = [Text(f"failed: {failure(job)}", style="red") for job in progress.failed]
    notes = [Text(note, style="yellow") for note in progress.notes]
    if console is not None:
        lost, notes = lost[-SOME:], []
    bottom = [Text(), *notes, *lost] if notes or lost else []
    if not progress.working:
        return Group(*top, *bottom)
    room = None
    if console is not None:
        taken = len(console.render_lines(Group(*top, Text(), *bottom)))
        room = max(1, console.height - 1 - taken)
    return Group(*top, Text(), *_working(progress, room), *bottom)


def _details(progress: Progress) -> Table:
    details = Table.grid(padding=(0, 2))
    details.add_column(style="dim", no_wrap=True)
    details.add_column()
    if progress.cells:
        details.add_row("cells", _cells(progress))
        details.add_row("candidates", f"{progress.measured} measured")
        details.add_row("best", Text(best(progress), no_wrap=True, overflow="ellipsis"))
    if progress.left is not None:
        details.add_row("left", left(progress.left))
    if progress.stages:
        details.add_row("stages", stages(progress))
    if progress.state != "done" and progress.log:
        details.add_row("log", Text(_short(progress.log), overflow="fold"))
    return details


def _short(path: str) -> str:
    """A path from here on, where it lies below."""
    return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path


def _cells(progress: Progress) -> Table:
    bar = Table.grid(padding=(0, 2))
    shown = ProgressBar(total=progress.cells, completed=progress.cells_done, width=BAR)
    bar.add_row(f"{progress.cells_done} of {progress.cells}", shown)
    return bar


def _working(progress: Progress, room: int | None) -> Iterator[RenderableType]:
    """The jobs that run: a search with a line for each of its cells, where there is room."""
    scripts = [job for job in progress.working if job.stage == "code"]
    working = [job for job in progress.working if job.stage != "code"]
    lines = len(working) + sum(len(_cells_of(progress, job)) for job in working)
    wide = room is None or lines + bool(scripts) <= room
    kept = len(working)
    if not wide and room is not None and kept + bool(scripts) > room:
        kept = max(0, room - 1 - bool(scripts))
    for job in working[:kept]:
        yield Text.assemble(*_job(progress, job, wide), no_wrap=True, overflow="ellipsis")
        if wide and (cells := _cells_of(progress, job)):
            yield _table(cells)
    if len(working) > kept:
        yield Text(f"and {len(working) - kept} more jobs", style="dim")
    if scripts:
        yield Text(f"writing scripts, {len(scripts)} at once")


def _cells_of(progress: Progress, job: Job) -> Sequence[CellProgress]:
    return progress.configurations.get(job.name, ()) if job.stage == "search" else ()


def _job(progress: Progress, job: Job, wide: bool) -> Iterator[tuple[str, str]]:
    """A job in words, each with its style."""
    passed = duration(max(0.0, progress.since + progress.seconds - job.started))
    yield f"{DOING[job.stage]} ", ""
    yield job_title(job.stage, job.name), "bold"
    cells = _cells_of(progress, job)
    if cells and not wide:
        found = [cell.best.speedup for cell in cells if cell.best and not cell.fewer_steps]
        fastest = f", best {max(found):.2f}x" if found else ""
        yield f": {sum(cell.measured for cell in cells)} candidates{fastest}", ""
    yield f"  {passed}{_place(progress, job)}", "dim"


def _table(cells: Sequence[CellProgress]) -> Table:
    """How far the cells of a search are; what they are compared with is dim."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=28, no_wrap=True, overflow="ellipsis")
    table.add_column(min_width=8, justify="right", no_wrap=True)
    table.add_column(min_width=6, justify="right", no_wrap=True)
    table.add_column(min_width=11, justify="right", no_wrap=True)
    for cell in cells:
        above = cell.most is None or cell.measured > cell.most
        count = str(cell.measured) if above else f"{cell.measured} of {cell.most}"
        own = cell.best
        best = (f"{own.speedup:.2f}x", f"loss {own.loss:+.1%}") if own else ("-", "")
        style = "dim" if cell.fewer_steps else ""
        table.add_row(f"  {escape(cell.accelerators)}", count, *best, style=style)
    return table


def _place(progress: Progress, job: Job) -> str:
    """Where a job computes, as far as that is not said in the first line."""
    device = "" if job.device in (None, "cpu") else f", {job.device}"
    host = "" if job.host == progress.host else f" on {job.host}"
    waits = job.device is None and job.stage != "models"
    return ", starting" + host if waits else device + host


# ---- lines -------------------------------------------------------------------------------------


class Events:
    """What happened between two looks, a line each."""

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
            f"{_short(progress.log)}"
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


class Shown:
    """A run as it is shown while it goes on.

    Args:
        console: where.
        reader: of its store.
    """

    def __init__(self, console: Console, reader: Reader) -> None:
        self._console, self._reader = console, reader
        self._events = Events()
        self._silent = time.monotonic()
        self._live: Live | None = None
        if is_live(console):
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()

    def look(self) -> Progress:
        """Looks once, and shows what there is."""
        progress = self._reader.read()
        for line in self._events.news(progress):
            self.say(line)
        if self._live is not None:
            self._live.update(evaluated(progress, self._console), refresh=True)
        elif time.monotonic() - self._silent > SILENCE and progress.state == "going":
            self.say(heartbeat(progress))
        return progress

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._live is not None:
            self._live.update(Text())
            self._live.stop()
            self._live = None

    def show_stopped(self) -> None:
        """What there is at the end of a run that was asked to stop."""
        progress = self._reader.read()
        self._console.print(
            f"stopped: {heartbeat(progress)}. `diffaccel run` goes on from there.", soft_wrap=True
        )

    def say(self, line: str) -> None:
        """A line above the view, with the time."""
        self._silent = time.monotonic()
        red = "red" if line.startswith("failed: ") else ""
        text = Text.assemble((time.strftime("%H:%M:%S "), "dim"), (line, red))
        self._console.print(text, soft_wrap=self._live is None, highlight=False)


def status(reader: Reader, watch: bool) -> None:
    """Prints how a run is: once, or again and again until it ends."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(reader, console)
    console.print(evaluated(reader.read()))


def _watch(reader: Reader, console: Console) -> None:
    """Shows a run until it ends."""
    if not is_live(console):
        shown = Shown(console, reader)
        while shown.look().state == "going":
            time.sleep(REFRESH)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while (progress := reader.read()).state == "going":
            live.update(evaluated(progress, console), refresh=True)
            time.sleep(REFRESH)
