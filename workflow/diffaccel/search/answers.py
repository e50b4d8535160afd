"""Answers the tasks of a configuration from what is known of its cells, and measures more where
that is open."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment import tasks
from diffaccel.experiment.tasks import Task
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch
from diffaccel.search.loop import run_search
from diffaccel.search.records import Answer, CellResult
from diffaccel.search.requests import Measurer, Requests

BOUND_MARGIN = 1.1
"""Stored bound over measured: a wrongly accepted request costs a search, a wrongly rejected one
is lost."""


def stored_bound(known: CellResult) -> float | None:
    """The speedup up to which a request is tried."""
    return round(known.bound.speedup * BOUND_MARGIN, 2) if known.bound else None


def answer_tasks(
    made: Sequence[Task],
    known: Sequence[CellResult],
    searches: Sequence[CellSearch],
    measurer: Measurer,
) -> list[Answer]:
    """Answers tasks from what is known of their cells, measuring more where that is open: those of
    the same limits side by side."""
    found: dict[str, Answer] = {}
    for limits in dict.fromkeys(task.limits for task in made):
        same = [task for task in made if task.limits == limits]
        wanting = []
        for cell, search in zip(known, searches, strict=True):
            view, own = search.under(limits), [task for task in same if task.cell == search.cell]
            wanting.append((view, _answering(own, cell, view, found)))
        run_search(wanting, measurer)
    return [found[task.id] for task in made]


def _answering(
    made: Sequence[Task], known: CellResult, search: CellSearch, found: dict[str, Answer]
) -> Requests:
    """Answers a cell's tasks into ``found``: what was evaluated is timed for all of them together,
    and only then is there a search for one after the other."""
    hopeful, open_ended = [], []
    for task in made:
        task = _in_time(task, search.baseline)
        reason = _hopeless(task, known)
        task = resolved(task, known)
        if reason is not None:
            found[task.id] = _infeasible(task, reason, search, known.time_up)
        elif task.required is not None:
            hopeful.append((task, task.required))
        else:
            open_ended.append(task)
    for task in open_ended:
        yield from search.decide([], task.max_loss, bound=True)
        found[task.id] = _fastest(task, search, known)
    for limit in sorted({task.max_loss for task, _ in hopeful}):
        yield from search.meet([r for task, r in hopeful if task.max_loss == limit], limit)
    for task, required in hopeful:
        meet = functools.partial(pareto.meet, required=required, loss_limit=task.max_loss)
        chosen = search.predictions.best(meet, task.max_loss)
        if chosen is None:
            yield from search.decide([required], task.max_loss, bound=False)
            chosen = search.predictions.best(meet, task.max_loss)
        if chosen is not None:
            clear = search.predictions.clear(chosen, required, task.max_loss)
            environment = search.baseline.environment
            found[task.id] = Answer(task, "met", "", chosen, None, environment, clear)
        else:
            count = len(search.history.evaluations)
            reason = f"no candidate of {count} measured reaches {required}x within the "
            reason += "limits" if search.options.limits else "loss"
            found[task.id] = _infeasible(task, reason, search, known.time_up)


def _in_time(task: Task, baseline: Baseline) -> Task:
    """The task with the speedup that its latency takes, if it asks for one."""
    if task.latency_s is None:
        return task
    required = math.ceil(100 * baseline.seconds_per_image / task.latency_s) / 100
    return dataclasses.replace(task, required=required)


def _fastest(task: Task, search: CellSearch, known: CellResult) -> Answer:
    """The answer to a task that asks for the fastest; what that is must then be kept."""
    fastest = search.predictions.fastest(task.max_loss)
    if fastest is None:
        reason = f"no candidate {_kept(task, known)}"
        return _infeasible(task, reason, search, known.time_up)
    chosen = search.predictions.measurement(fastest)
    required = math.floor(100 * chosen.speedup) / 100
    task = dataclasses.replace(task, required=required)
    clear = search.predictions.clear(chosen, chosen.speedup, task.max_loss)
    return Answer(task, "met", "", chosen, None, search.baseline.environment, clear)


def _hopeless(task: Task, known: CellResult) -> str | None:
    """Why a task cannot be met whatever is measured, or None."""
    if known.status == "refused":
        return known.reason
    if task.fastest:
        return None
    required = _required(task, known)
    if required is None:
        return f"no candidate {_kept(task, known)}, so there is no bound to take a share of"
    if required <= 1 and task.latency_s is None:
        said = f"{required}x is no speedup"
        return f"{said}: {_measured_bound(known)} leaves none" if task.fraction else said
    limit = stored_bound(known) if _as_strict(task, known) else None
    if limit is not None and required > limit:
        return f"{required}x is above {_measured_bound(known)}"
    return None


def _as_strict(task: Task, known: CellResult) -> bool:
    """Whether all that keeps a task's limits keeps those of its cell."""
    others = known.search.under(task.limits).limits
    return task.max_loss <= known.loss_limit and set(known.search.limits) <= set(others)


def _kept(task: Task, known: CellResult) -> str:
    """What a candidate would have to keep, in words."""
    others = [each.words for each in known.search.under(task.limits).limits]
    if not others:
        return f"has a loss below {task.max_loss}"
    return f"keeps all limits (a loss below {task.max_loss}, {', '.join(others)})"


def _measured_bound(known: CellResult) -> str:
    """The bound in words, as it was measured: the stored one, which is higher, decides what is
    tried, and is nothing that can be had."""
    return f"the bound of {known.bound.speedup:.2f}x" if known.bound else "the bound"


def _required(task: Task, known: CellResult) -> float | None:
    if task.fraction is None:
        return task.required
    limit = stored_bound(known)
    return None if limit is None else round(task.fraction * limit, 2)


def resolved(task: Task, known: CellResult) -> Task:
    """The task with its speedup and sentence, as far as the bound gives them."""
    required = _required(task, known)
    if task.cell is None or task.sentence is not None or required is None or required <= 1:
        return task
    configuration = task.cell.configuration
    request = tasks.Request(
        configuration.model,
        configuration.scheduler,
        configuration.steps,
        task.cell.accelerators,
        required,
        task.max_loss,
        limits=known.search.under(task.limits).limits,
    )
    return dataclasses.replace(task, required=required, sentence=tasks.sentence(request))


def _infeasible(task: Task, reason: str, search: CellSearch, time_up: bool) -> Answer:
    near = search.predictions.best(
        lambda known: pareto.nearest(known, task.required or 1.0, task.max_loss), task.max_loss
    )
    required = task.required or math.inf
    clear = search.refused is not None or search.predictions.clear(None, required, task.max_loss)
    where = search.baseline.environment
    if search.history.passing:
        reason += (
            f"; {search.history.passing} failed for what may pass: the next run tries them again"
        )
        return Answer(task, "open", reason, None, near, where, clear=False)
    if time_up:
        reason += "; the search's time was up before it had tried all that may be faster"
    return Answer(task, "infeasible", reason, None, near, where, clear and not time_up)


def unparsed(task: Task) -> Answer:
    """The answer to a sentence that was not understood."""
    return Answer(task, "unparsed", task.problem or "", None, None, None)
