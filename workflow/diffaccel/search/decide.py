"""Deciding the cells of a configuration and answering their tasks, in one process: the model is
loaded once, and what the cells want timed shares rounds beside one baseline."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import statistics
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.evaluation import keys
from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.gallery import Gallery
from diffaccel.evaluation.records import Baseline, Evaluation, SpeedRow
from diffaccel.experiment import tasks
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.options import SearchOptions
from diffaccel.experiment.tasks import Task
from diffaccel.machine.watch import Watch
from diffaccel.plugins.space import ParametersDict
from diffaccel.search import pareto
from diffaccel.search.cell import (
    CellSearch,
    EvaluationRequest,
    MeasuredSpeeds,
    Measurer,
    Requests,
    Wanted,
    answer_at_all,
    run_search,
)
from diffaccel.search.records import Answer, CellResult
from diffaccel.store.jsonio import digest

if TYPE_CHECKING:
    from diffaccel.evaluation.calls import Bench, Candidate
    from diffaccel.plugins.metrics.base import Images

log = logging.getLogger(__name__)

BOUND_MARGIN = 1.1
"""Stored bound over measured: a wrongly accepted request costs a search, a wrongly rejected one
is lost."""


EXPLORED = (0.35, 0.55)
"""Shares of a search's time after which no new candidate of a single accelerator, or of any, is
generated: what was found is timed."""
ANSWERED = 0.85
"""Share after which what is still open stays so; the rest is for the comparison."""
PATIENCE = 10.0
"""How many times as long as the baseline pipeline's a call may take at least."""


class Live:
    """Measures on the device, which is taken, and the model loaded, when the first candidate must
    be measured; both are kept until the stack is closed.

    Args:
        images: folder of the baseline's.
        gallery: gets some of those that are evaluated.
        watch: is told of calls.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        baseline: Baseline,
        images: Path,
        gallery: Gallery,
        watch: Watch,
    ) -> None:
        self._stack, self._baseline, self._folder = stack, baseline, images
        self._gallery, self._watch = gallery, watch
        self._warm: set[str] = set()

    @functools.cached_property
    def _opened(self) -> tuple[Bench, Images]:
        from diffaccel.evaluation import bench

        baseline = self._baseline
        platform = baseline.environment.platform
        device = bench.take_device(self._stack, baseline.spec, platform)
        made = bench.open_bench(
            baseline.configuration, baseline.spec, baseline.options, device, watch=self._watch
        )
        bench.check_same(made, baseline)
        made.call(made.baseline, made.batches()[0])  # warm-up
        return made, bench.load_images(self._folder, baseline)

    def _candidate(
        self, parameters: ParametersDict, prompts: int | None = None, short: bool = False
    ) -> Candidate:
        from diffaccel.evaluation.calls import Candidate

        made, _ = self._opened
        applied = functools.partial(made.accelerated, parameters)
        warm = digest(parameters) in self._warm
        return Candidate(parameters, applied, warm, prompts, short=short)

    def evaluate(self, wanted: Sequence[EvaluationRequest]) -> list[Evaluation]:
        from diffaccel.evaluation.candidates import evaluate

        made, references = self._opened
        self._warm.update(digest(sheet.parameters) for sheet in wanted)
        return [
            evaluate(
                made,
                self._baseline,
                references,
                self._candidate(sheet.parameters, sheet.prompts),
                sheet.before,
                functools.partial(self._gallery.keep, sheet.parameters),
            )
            for sheet in wanted
        ]

    def time_candidates(self, wanted: Wanted, short: Container[str] = ()) -> list[SpeedRow]:
        from diffaccel.evaluation.timing import time_candidates

        made, references = self._opened
        candidates = [self._candidate(s, short=digest(s) in short) for _, s in wanted]
        return time_candidates(made, candidates, references)


@contextlib.contextmanager
def opened(
    cells: Sequence[Cell],
    baseline: Baseline,
    images: Path,
    journals: Path,
    options: SearchOptions,
    watch: Watch | None = None,
    aside: Cell | None = None,
) -> Iterator[tuple[list[CellSearch], Measurer]]:
    """The cells of a configuration with what is known of them, and what measures more.

    Args:
        journals: folder of the cells' journals.
        watch: who is told of calls, if anybody.
        aside: the one of them that the others are only compared with.
    """
    watch = (watch or Watch()).within(call_seconds(baseline, options))
    speeds = MeasuredSpeeds(baseline, keys.timed(journals, baseline))
    beside: dict[tuple[str, ...], CellSearch] = {}
    budget = Budget(options.budget)
    for cell in cells:
        evaluated = keys.evaluated(journals, baseline, cell.slug)
        beside[cell.accelerators] = CellSearch(
            cell, baseline, evaluated, speeds, options, beside, budget, cell == aside
        )
    with contextlib.ExitStack() as stack:
        gallery = Gallery.beside(journals, baseline)
        yield list(beside.values()), Live(stack, baseline, images, gallery, watch)


def call_seconds(baseline: Baseline, options: SearchOptions) -> float:
    """How long a call may take before it counts as hung."""
    return max(options.call_seconds, PATIENCE * statistics.median(baseline.seconds))


def decide_all(
    searches: Sequence[CellSearch],
    measurer: Measurer,
    asked: Sequence[Task],
    targets: Sequence[float],
    loss_limit: float,
) -> tuple[list[CellResult], list[Answer]]:
    """Decides the cells and answers the tasks. Where answering changed a bound, the bounds are
    decided again, and so are the tasks that are made from them."""
    while True:
        known = frontiers(searches, measurer, targets, loss_limit)
        with searches[0].budget.until(ANSWERED):
            found = answers(asked, known, searches, measurer)
        if not any(map(_is_stale, known, searches)):
            return known, found


def _is_stale(known: CellResult, search: CellSearch) -> bool:
    """Whether the bound is another candidate by now, or of another speed than timings differ by."""
    before, now = known.bound, search.bound(known.loss_limit)
    if before is None or now is None:
        return before is not now
    off = abs(math.log(now.speedup / before.speedup))
    return now.parameters != before.parameters or off > search.baseline.options.spread


def frontiers(
    searches: Sequence[CellSearch], measurer: Measurer, targets: Sequence[float], loss_limit: float
) -> list[CellResult]:
    """Decides the bound and the targets of each cell.

    Single accelerators are explored first, since their losses tell what to expect of combinations;
    what answers is timed when all are.
    """
    able = [search for search in searches if search.refused is None]
    for search in searches:
        if search.refused is not None:
            log.warning("%s: %s", search.cell.slug, search.refused)
    if able:
        budget = able[0].budget
        asked = [each for each in able if not (each.aside and budget.limited)]
        counts = sorted({len(search.cell.accelerators) for search in asked})
        for count in counts:
            same = [search for search in asked if len(search.cell.accelerators) == count]
            with budget.until(EXPLORED[count > 1]):
                run_search(
                    [(search, search.explore(targets, loss_limit)) for search in same], measurer
                )
        _decide(asked, measurer, targets, loss_limit)
        answer_at_all(able, measurer, targets, loss_limit)
    return [_frontier(search, targets, loss_limit) for search in searches]


def _decide(
    asked: Sequence[CellSearch], measurer: Measurer, targets: Sequence[float], loss_limit: float
) -> None:
    """Until all is decided, or time is up: what is new is evaluated as long as there is time for
    it."""
    for share, explored in ((EXPLORED[-1], False), (ANSWERED, True)):
        with asked[0].budget.until(share):
            wanting = [
                (search, search.decide(targets, loss_limit, bound=True, explored=explored))
                for search in asked
            ]
            run_search(wanting, measurer)
        if not asked[0].budget.limited:
            return


def _frontier(search: CellSearch, targets: Sequence[float], loss_limit: float) -> CellResult:
    supported, _ = search.combination.supports(search.baseline.pipeline)
    bound = search.bound(loss_limit)
    return CellResult(
        cell=search.cell,
        status="measured" if search.refused is None else "refused",
        reason=search.refused or "",
        loss_limit=loss_limit,
        search=search.options,
        baseline=search.baseline.whole,
        bound=bound,
        front=pareto.front(search.usable()),
        measured=len(search.evaluations),
        timed=len(search.timings),
        seconds=search.seconds,
        candidates=search.space.size if supported else 0,
        clear=bound is None or search.clear(bound, bound.speedup, loss_limit),
        time_up=search.refused is None and search.time_up(targets, loss_limit),
        passing=search.passing,
    )


def stored_bound(known: CellResult) -> float | None:
    """The speedup up to which a request is tried."""
    return round(known.bound.speedup * BOUND_MARGIN, 2) if known.bound else None


def answers(
    made: Sequence[Task],
    known: Sequence[CellResult],
    searches: Sequence[CellSearch],
    measurer: Measurer,
) -> list[Answer]:
    """Answers tasks from what is known of their cells, measuring more where that is open."""
    found: dict[str, Answer] = {}
    run_search(
        [
            (search, _answering([t for t in made if t.cell == search.cell], cell, search, found))
            for cell, search in zip(known, searches, strict=True)
        ],
        measurer,
    )
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
        chosen = search.best(meet)
        if chosen is None:
            yield from search.decide([required], task.max_loss, bound=False)
            chosen = search.best(meet)
        if chosen is not None:
            clear = search.clear(chosen, required, task.max_loss)
            environment = search.baseline.environment
            found[task.id] = Answer(task, "met", "", chosen, None, environment, clear)
        else:
            count = len(search.evaluations)
            reason = f"no candidate of {count} measured reaches {required}x within the loss"
            found[task.id] = _infeasible(task, reason, search, known.time_up)


def _in_time(task: Task, baseline: Baseline) -> Task:
    """The task with the speedup that its latency takes, if it asks for one."""
    if task.latency_s is None:
        return task
    required = math.ceil(100 * baseline.seconds_per_image / task.latency_s) / 100
    return dataclasses.replace(task, required=required)


def _fastest(task: Task, search: CellSearch, known: CellResult) -> Answer:
    """The answer to a task that asks for the fastest; what that is must then be kept."""
    fastest = search.fastest(task.max_loss)
    if fastest is None:
        reason = f"no candidate has a loss below {task.max_loss}"
        return _infeasible(task, reason, search, known.time_up)
    chosen = search.measured(fastest)
    required = math.floor(100 * chosen.speedup) / 100
    task = dataclasses.replace(task, required=required)
    clear = search.clear(chosen, chosen.speedup, task.max_loss)
    return Answer(task, "met", "", chosen, None, search.baseline.environment, clear)


def _hopeless(task: Task, known: CellResult) -> str | None:
    """Why a task cannot be met whatever is measured, or None."""
    if known.status == "refused":
        return known.reason
    if task.fastest:
        return None
    required = _required(task, known)
    if required is None:
        return f"no candidate has a loss below {task.max_loss}, so there is no bound to take from"
    if required <= 1 and task.latency_s is None:
        said = f"{required}x is no speedup"
        return f"{said}: {_measured_bound(known)} leaves none" if task.fraction else said
    limit = stored_bound(known) if task.max_loss <= known.loss_limit else None
    if limit is not None and required > limit:
        return f"{required}x is above {_measured_bound(known)}"
    return None


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
    )
    return dataclasses.replace(task, required=required, sentence=tasks.sentence(request))


def _infeasible(task: Task, reason: str, search: CellSearch, time_up: bool) -> Answer:
    near = search.best(lambda known: pareto.nearest(known, task.required or 1.0, task.max_loss))
    required = task.required or math.inf
    clear = search.refused is not None or search.clear(None, required, task.max_loss)
    where = search.baseline.environment
    if search.passing:
        reason += f"; {search.passing} failed for what may pass: the next run tries them again"
        return Answer(task, "open", reason, None, near, where, clear=False)
    if time_up:
        reason += "; the search's time was up before it had tried all that may be faster"
    return Answer(task, "infeasible", reason, None, near, where, clear and not time_up)


def unparsed(task: Task) -> Answer:
    """The answer to a sentence that was not understood."""
    return Answer(task, "unparsed", task.problem or "", None, None, None)
