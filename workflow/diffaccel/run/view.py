"""The view of a run, redrawn in place: what it is about, its stages, and the jobs that work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diffaccel.machine.jobs import Job
from diffaccel.report.words import duration, job_title
from diffaccel.run.progress import CellProgress, Progress
from diffaccel.run.texts import best, failure, head, left, shortened, stages

BAR = 30
SOME = 3
"""Failures at most that a view in a terminal shows; all are said above it, as are warnings."""
DOING = {
    "models": "fetching",
    "baseline": "baseline of",
    "search": "searching",
    "code": "writing",
    "verify": "verifying the scripts of",
    "speed": "timing",
    "judge": "judging the scripts of",
}


def rendered(progress: Progress, console: Console | None = None) -> RenderableType:
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
        details.add_row("log", Text(shortened(progress.log), overflow="fold"))
    return details


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
