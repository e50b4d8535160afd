"""Deciding the cells of a setup: measure what the strategy asks for until it asks no more.

All cells of a (model, scheduler, steps) are decided in one process, side by side: the model is
loaded once, and what they want measured next is timed in the same rounds, beside one baseline.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel import pareto, tasks
from diffaccel.accelerators import Combination, combination
from diffaccel.grid import Cell
from diffaccel.journal import Journal
from diffaccel.jsonio import digest
from diffaccel.measure import check_baseline
from diffaccel.records import (
    Answer,
    Baseline,
    Frontier,
    Measurement,
    SearchOptions,
    SettingDict,
    Task,
)
from diffaccel.space import Space, flatten, nest
from diffaccel.strategies import STRATEGIES, Observation, Problem

if TYPE_CHECKING:
    from diffaccel.measure import Bench
    from diffaccel.metrics.base import Images

log = logging.getLogger(__name__)

BOUND_MARGIN = 1.1
"""Stored bound over measured: a wrongly accepted request costs a search, a wrongly rejected one
is lost."""
TOGETHER = 8
"""Settings at most that are timed in the same rounds."""

Wants = Iterator[list[SettingDict]]
"""What a cell wants measured, again and again until it is decided."""
Measure = Callable[[Sequence[tuple[Cell, SettingDict]]], list[Measurement]]
"""Measures settings of cells together."""


@dataclass(frozen=True)
class CellSearch:
    """A cell with all that was measured of it."""

    cell: Cell
    baseline: Baseline
    journal: Journal[Measurement]
    options: SearchOptions
    known: list[Measurement] = field(default_factory=list)

    @property
    def combination(self) -> Combination:
        return combination(self.cell.accelerators)

    @functools.cached_property
    def refused(self) -> str | None:
        """Why nothing can be measured here, or None."""
        ok, reason = self.combination.supports(self.baseline.facts)
        return check_baseline(self.baseline) if ok else reason

    @functools.cached_property
    def space(self) -> Space:
        """The settings that may be tried."""
        full = self.combination.space(self.baseline.facts)
        return full.on_grid() if self.options.space == "grid" else full

    def rows(self) -> list[Measurement]:
        """One measurement a setting: where it was measured again, the last."""
        return list({digest(row.setting): row for row in self.known}.values())

    def usable(self) -> list[Measurement]:
        """The measurements that may be chosen."""
        return [row for row in self.rows() if row.failure is None]

    def decide(self, targets: Sequence[float], loss_limit: float, *, bound: bool) -> Wants:
        """What must be measured until the strategy has decided the targets and, if asked for, the
        bound. Each list must have been added when the next is asked for."""
        problem = Problem(
            space=self.space,
            loss_limit=loss_limit,
            targets=tuple(targets),
            bound=bound,
            seed=self.options.seed,
        )
        while settings := self._ask(problem) or (self._unconfirmed(loss_limit) if bound else []):
            yield settings

    def _ask(self, problem: Problem) -> list[SettingDict]:
        """What the strategy wants, told of everything that was measured in this space."""
        seen = [_observation(row) for row in self.rows()]
        history = [one for one in seen if problem.space.holds(one.point)]
        return [nest(point) for point in STRATEGIES[self.options.strategy].ask(problem, history)]

    def _unconfirmed(self, loss_limit: float) -> list[SettingDict]:
        """The fastest setting, unless it was measured twice.

        The largest of many noisy speedups is too large on average (the winner's curse). The second
        measurement was not chosen for being large, and is the one that counts.
        """
        best = pareto.bound(self.usable(), loss_limit)
        if best is None or [row.setting for row in self.known].count(best.setting) > 1:
            return []
        return [best.setting]

    def add(self, row: Measurement) -> None:
        """Keeps a measurement, on disk first."""
        self.journal.append(row)
        self.known.append(row)
        log.info(
            "%s: %d measured, %s -> %.2fx, loss %+.4f%s",
            self.cell.slug,
            len(self.rows()),
            ", ".join(f"{name}={value}" for name, value in flatten(row.setting).items()),
            row.speedup,
            row.loss,
            f" ({row.failure})" if row.failure else "",
        )


def _observation(row: Measurement) -> Observation:
    loss = float("inf") if row.failure else row.loss
    return Observation(flatten(row.setting), row.speedup, loss)


def settle(wanting: Sequence[tuple[CellSearch, Wants]], measure: Measure) -> None:
    """Measures what the cells want, side by side, until none wants more."""
    queues: dict[Cell, list[SettingDict]] = {search.cell: [] for search, _ in wanting}
    searches = {search.cell: search for search, _ in wanting}
    while True:
        for search, wants in wanting:
            queues[search.cell] = queues[search.cell] or next(wants, [])
        # The first of each cell, then the second of each, as many as are timed together.
        rounds = itertools.zip_longest(*([(cell, s) for s in q] for cell, q in queues.items()))
        batch = [each for group in rounds for each in group if each is not None][:TOGETHER]
        if not batch:
            return
        for (cell, setting), row in zip(batch, measure(batch), strict=True):
            searches[cell].add(row)
            queues[cell] = [other for other in queues[cell] if other is not setting]


@contextlib.contextmanager
def opened(
    cells: Sequence[Cell], baseline: Baseline, images: Path, journals: Path, options: SearchOptions
) -> Iterator[tuple[list[CellSearch], Measure]]:
    """The cells of a setup with what is known of them, and what measures more. The device is taken
    and the model loaded only when the first setting must be measured, and both are kept until
    the end.

    Args:
        journals: folder of the cells' journals.
    """
    searches = []
    for cell in cells:
        journal = Journal(journals / f"{cell.slug}.jsonl", baseline.digest, Measurement)
        searches.append(CellSearch(cell, baseline, journal, options, journal.rows()))
    with contextlib.ExitStack() as stack:
        bench = functools.cache(lambda: _open(stack, baseline, images))

        def measure(batch: Sequence[tuple[Cell, SettingDict]]) -> list[Measurement]:
            from diffaccel.measure import Candidate
            from diffaccel.measure import measure as measure_all

            made, references = bench()
            candidates = [Candidate(s, functools.partial(made.accelerated, s)) for _, s in batch]
            return measure_all(made, baseline, references, candidates)

        yield searches, measure


def _open(stack: contextlib.ExitStack, baseline: Baseline, images: Path) -> tuple[Bench, Images]:
    from diffaccel import bench, devices

    device = stack.enter_context(devices.hold_device())
    made = bench.open_bench(baseline.setup, baseline.spec, baseline.options, device)
    bench.check_same(made, baseline)
    references = bench.load_images(images, baseline)
    made.call(made.plain, made.batches()[0])  # warm-up
    return made, references


def decide_all(
    searches: Sequence[CellSearch],
    measure: Measure,
    asked: Sequence[Task],
    targets: Sequence[float],
    loss_limit: float,
) -> tuple[list[Frontier], list[Answer]]:
    """Decides the cells and answers the tasks. Where answering met something faster than a bound,
    the bounds are decided again, and so are the tasks that are made from them."""
    while True:
        known = frontiers(searches, measure, targets, loss_limit)
        found = answers(asked, known, searches, measure)
        now = [pareto.bound(search.usable(), loss_limit) for search in searches]
        if now == [frontier.bound for frontier in known]:
            return known, found


def frontiers(
    searches: Sequence[CellSearch], measure: Measure, targets: Sequence[float], loss_limit: float
) -> list[Frontier]:
    """Decides the bound and the targets of each cell."""
    wanting = []
    for search in searches:
        if search.refused is None:
            wanting.append((search, search.decide(targets, loss_limit, bound=True)))
        else:
            log.warning("%s: %s", search.cell.slug, search.refused)
    settle(wanting, measure)
    return [_frontier(search, loss_limit) for search in searches]


def _frontier(search: CellSearch, loss_limit: float) -> Frontier:
    supported, _ = search.combination.supports(search.baseline.facts)
    return Frontier(
        cell=search.cell,
        status="measured" if search.refused is None else "refused",
        reason=search.refused or "",
        loss_limit=loss_limit,
        search=search.options,
        baseline=search.baseline.digest,
        bound=pareto.bound(search.usable(), loss_limit),
        front=pareto.front(search.usable()),
        measured=len(search.rows()),
        seconds=sum(row.spent for row in search.known),
        candidates=search.space.size if supported else 0,
    )


def stored_bound(known: Frontier) -> float | None:
    """The speedup up to which a request is tried."""
    return round(known.bound.speedup * BOUND_MARGIN, 2) if known.bound else None


def answers(
    made: Sequence[Task],
    known: Sequence[Frontier],
    searches: Sequence[CellSearch],
    measure: Measure,
) -> list[Answer]:
    """Answers tasks from what is known of their cells, measuring more where that is open."""
    found: dict[str, Answer] = {}
    settle(
        [
            (search, _answering([t for t in made if t.cell == search.cell], cell, search, found))
            for cell, search in zip(known, searches, strict=True)
        ],
        measure,
    )
    return [found[task.id] for task in made]


def _answering(
    made: Sequence[Task], known: Frontier, search: CellSearch, found: dict[str, Answer]
) -> Wants:
    """Answers a cell's tasks one after the other into ``found``."""
    for task in made:
        reason = _hopeless(task, known)
        task = resolved(task, known)
        if reason is None and task.required is not None:
            chosen = pareto.meet(search.usable(), task.required, task.max_loss)
            if chosen is None:
                yield from search.decide([task.required], task.max_loss, bound=False)
                chosen = pareto.meet(search.usable(), task.required, task.max_loss)
            if chosen is not None:
                found[task.id] = Answer(task, "met", "", chosen, None, search.baseline.environment)
                continue
            count = len(search.rows())
            reason = f"no setting of {count} measured reaches {task.required}x within the loss"
        found[task.id] = _infeasible(task, reason or "", search)


def _hopeless(task: Task, known: Frontier) -> str | None:
    """Why a task cannot be met whatever is measured, or None."""
    if known.status == "refused":
        return known.reason
    required = _required(task, known)
    if required is None:
        return f"no setting has a loss below {task.max_loss}, so there is no bound to take from"
    if required <= 1:
        return f"{required}x is no speedup: the bound of {stored_bound(known)}x leaves none"
    limit = stored_bound(known) if task.max_loss <= known.loss_limit else None
    if limit is not None and required > limit:
        return f"{required}x is above the bound of {limit}x"
    return None


def _required(task: Task, known: Frontier) -> float | None:
    if task.fraction is None:
        return task.required
    limit = stored_bound(known)
    return None if limit is None else round(task.fraction * limit, 2)


def resolved(task: Task, known: Frontier) -> Task:
    """The task with its speedup and sentence, as far as the bound gives them."""
    required = _required(task, known)
    if task.cell is None or task.sentence is not None or required is None or required <= 1:
        return task
    setup = task.cell.setup
    request = tasks.Request(
        setup.model,
        setup.scheduler,
        setup.steps,
        task.cell.accelerators,
        required,
        task.max_loss,
    )
    return dataclasses.replace(task, required=required, sentence=tasks.sentence(request))


def _infeasible(task: Task, reason: str, search: CellSearch) -> Answer:
    near = pareto.nearest(search.usable(), task.required or 1.0, task.max_loss)
    return Answer(task, "infeasible", reason, None, near, search.baseline.environment)


def unparsed(task: Task) -> Answer:
    """The answer to a sentence that was not understood."""
    return Answer(task, "unparsed", task.problem or "", None, None, None)
