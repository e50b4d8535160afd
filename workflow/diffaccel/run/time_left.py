"""How long a run still takes, by what similar jobs took and by what each may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffaccel.experiment.grid import Configuration
from diffaccel.machine.jobs import STAGES, Job, Run
from diffaccel.run.cells import Cells, configuration_of
from diffaccel.run.progress import Left

LIKE: tuple[Callable[[Configuration], Any], ...] = (
    lambda configuration: (configuration.model, configuration.steps),
    lambda configuration: configuration.model,
    lambda configuration: None,
)
"""What configurations have in common that are expected to take as long, the most similar first."""


def time_left(
    run: Run,
    every: Sequence[Job],
    rest: Mapping[str, Sequence[str]],
    alive: Sequence[Job],
    now: float,
    cells: Cells,
) -> Left:
    """Seconds that what is still to come takes.

    Each job takes as long as similar ones took here, at most its budget. The jobs of one
    configuration go one after the other; all of them are spread over the jobs at once.

    Args:
        every: jobs of all runs in the store.
        rest: names of the jobs that are still to come, or run now, by stage.
        alive: those that run now.
        now: seconds since the epoch.
    """
    took = {stage: _took(stage, every, cells) for stage in STAGES}
    since = {(job.stage, job.name): now - job.started for job in alive}
    chains: dict[str, float] = {}
    total, unknown = 0.0, []
    for stage in STAGES:
        for name in rest[stage]:
            expected = _expected(_like(name, took[stage]), run.budgets.get(stage))
            if expected is None:
                unknown.append(stage)
                continue
            spent = since.get((stage, name), 0.0)
            if stage == "search" and stage not in run.budgets:
                spent = max(spent, cells.seconds_so_far(run, name))
            seconds = max(expected - spent, 0.05 * expected)
            total += seconds
            slug = name if stage != "code" else stage
            chains[slug] = chains.get(slug, 0.0) + seconds
    if not chains:
        return Left(None if unknown else 0.0, tuple(dict.fromkeys(unknown)))
    at_once = run.at_once or _at_once(run, every, now)
    seconds = max(total / at_once, *chains.values())
    return Left(seconds, tuple(dict.fromkeys(unknown)))


def _took(stage: str, every: Sequence[Job], cells: Cells) -> dict[str, float]:
    """Seconds that jobs of a stage took, by name. A search that found most of it in its
    journals counts with the time that measuring took once."""
    took = {}
    for job in every:
        if job.stage == stage and job.status == "done" and job.ended is not None:
            took[job.name] = job.ended - job.started
            if stage == "search":
                took[job.name] = max(took[job.name], cells.seconds_of(job.name))
    return took


def _like(name: str, took: Mapping[str, float]) -> float | None:
    """Mean of what the most similar jobs took, or None where there is none."""
    for kind in LIKE:
        own = kind(configuration_of(name))
        same = [seconds for other, seconds in took.items() if kind(configuration_of(other)) == own]
        if same:
            return sum(same) / len(same)
    return None


def _expected(like: float | None, budget: float | None) -> float | None:
    """Seconds of a job, by what the like took and by what it may take."""
    return min((each for each in (like, budget) if each is not None), default=None)


def _at_once(run: Run, every: Sequence[Job], now: float) -> float:
    """How many jobs ran at once on average, since the first of this run began; idle time counts."""
    own = [job for job in every if job.run == run.id]
    if not own:
        return 1.0
    busy = sum(max(0.0, (job.ended or now) - job.started) for job in own)
    wall = max(1.0, now - min(job.started for job in own))
    return max(busy / wall, 0.1)
