"""Deciding a cell: measure what the strategy asks for until it asks no more.

Used by two stages. `frontier` decides the bound and all configured targets of a cell together;
`answer` decides one task, and measures only where the frontier left it open.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
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
    from diffaccel.measure import Bench, Generate
    from diffaccel.metrics.base import Images

log = logging.getLogger(__name__)

BOUND_MARGIN = 1.1
"""Stored bound over measured: a wrongly accepted request costs a search, a wrongly rejected one
is lost."""

Measure = Callable[[SettingDict], Measurement]


@dataclass(frozen=True)
class CellSearch:
    """A cell with all that was measured of it.

    Args:
        measure: measures a setting; called only when there is something to measure.
    """

    cell: Cell
    baseline: Baseline
    journal: Journal[Measurement]
    measure: Measure
    options: SearchOptions
    known: list[Measurement] = field(default_factory=list)

    @property
    def combination(self) -> Combination:
        return combination(self.cell.accelerators)

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

    def decide(self, targets: Sequence[float], loss_limit: float, *, bound: bool) -> None:
        """Measures until the strategy has decided the targets and, if asked for, the bound."""
        problem = Problem(
            space=self.space,
            loss_limit=loss_limit,
            targets=tuple(targets),
            bound=bound,
            seed=self.options.seed,
        )
        while settings := self._ask(problem) or (self._unconfirmed(loss_limit) if bound else []):
            for setting in settings:
                self._add(setting, loss_limit)

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

    def _add(self, setting: SettingDict, loss_limit: float) -> None:
        row = self.measure(setting)
        self.journal.append(row)
        self.known.append(row)
        self._say(row, loss_limit)

    def _say(self, row: Measurement, loss_limit: float) -> None:
        best = pareto.bound(self.usable(), loss_limit)
        log.info(
            "%s: %d measured, %s -> %.2fx, loss %+.4f%s; best %s",
            self.cell.slug,
            len(self.rows()),
            ", ".join(f"{name}={value}" for name, value in flatten(row.setting).items()),
            row.speedup,
            row.loss,
            f" ({row.failure})" if row.failure else "",
            f"{best.speedup:.2f}x" if best else "none",
        )


def _observation(row: Measurement) -> Observation:
    loss = float("inf") if row.failure else row.loss
    return Observation(flatten(row.setting), row.speedup, loss)


@contextlib.contextmanager
def opened(
    cell: Cell, baseline: Baseline, images: Path, journal: Path, options: SearchOptions
) -> Iterator[CellSearch]:
    """A cell ready to be searched. The device is taken and the model loaded only when the first
    setting must be measured, and both are kept until the end."""
    rows = Journal(journal, baseline.digest, Measurement)
    with contextlib.ExitStack() as stack:
        bench = functools.cache(lambda: _open(stack, baseline, images))

        def measure(setting: SettingDict) -> Measurement:
            from diffaccel.measure import measure as measure_one

            opened_bench, references = bench()
            combined = combination(cell.accelerators)

            @contextlib.contextmanager
            def applied() -> Iterator[Generate]:
                with combined.applied(opened_bench.pipe, setting) as call:
                    yield opened_bench.calling(call)

            return measure_one(opened_bench, baseline, references, applied, setting)

        yield CellSearch(cell, baseline, rows, measure, options, rows.rows())


def _open(stack: contextlib.ExitStack, baseline: Baseline, images: Path) -> tuple[Bench, Images]:
    from diffaccel import bench, devices

    device = stack.enter_context(devices.hold_device())
    made = bench.open_bench(baseline.setup, baseline.spec, baseline.options, device)
    bench.check_same(made, baseline)
    references = bench.load_images(images, baseline)
    made.call(made.plain, made.batches()[0])  # warm-up
    return made, references


def frontier(search: CellSearch, targets: Sequence[float], loss_limit: float) -> Frontier:
    """Decides the bound and the targets of a cell."""
    ok, reason = search.combination.supports(search.baseline.facts)
    refused = reason if not ok else check_baseline(search.baseline)
    start = time.perf_counter()
    if refused is None:
        search.decide(targets, loss_limit, bound=True)
    else:
        log.warning("%s: %s", search.cell.slug, refused)
    return Frontier(
        cell=search.cell,
        status="measured" if refused is None else "refused",
        reason=refused or "",
        loss_limit=loss_limit,
        search=search.options,
        baseline=search.baseline.digest,
        bound=pareto.bound(search.usable(), loss_limit),
        front=pareto.front(search.usable()),
        measured=len(search.rows()),
        seconds=time.perf_counter() - start,
        candidates=search.space.size if ok else 0,
    )


def stored_bound(known: Frontier) -> float | None:
    """The speedup up to which a request is tried."""
    return round(known.bound.speedup * BOUND_MARGIN, 2) if known.bound else None


def answer(task: Task, known: Frontier, search: CellSearch) -> Answer:
    """Answers one task from what is known of its cell, measuring more where that is open."""
    if known.status == "refused":
        return _infeasible(task, known.reason, search)
    required = _required(task, known)
    if required is None:
        reason = f"no setting has a loss below {task.max_loss}, so there is no bound to take from"
        return _infeasible(task, reason, search)
    if required <= 1:
        reason = f"{required}x is no speedup: the bound of {stored_bound(known)}x leaves none"
        return _infeasible(task, reason, search)
    task = resolved(task, known)
    limit = stored_bound(known) if task.max_loss <= known.loss_limit else None
    if limit is not None and required > limit:
        reason = f"{required}x is above the bound of {limit}x"
        return _infeasible(task, reason, search)
    chosen = pareto.meet(search.usable(), required, task.max_loss)
    if chosen is None:
        search.decide([required], task.max_loss, bound=False)
        chosen = pareto.meet(search.usable(), required, task.max_loss)
    if chosen is None:
        reason = f"no setting of {len(search.rows())} measured reaches {required}x within the loss"
        return _infeasible(task, reason, search)
    return Answer(task, "met", "", chosen, None, search.baseline.environment)


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
