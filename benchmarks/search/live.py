"""Decides the cells of a table live, on this machine, and holds the answers against the table's.

Nothing of the table helps the search. When it has ended, its bounds and the best candidates of the
table are timed once more beside each other, so that the same timing compares them. Their losses
stay what
they were when they were chosen: ToMe adds up in any order on a GPU, and would evaluate another one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.search.record import Opened, Plan
from benchmarks.search.replay import MEETING, whole_seconds
from benchmarks.search.tables import Table
from benchmarks.search.truth import LIMIT, TARGETS, Truth
from diffaccel.evaluation.records import Baseline, Environment, Measurement
from diffaccel.experiment.options import SearchOptions
from diffaccel.machine import devices
from diffaccel.plugins.space import ParametersDict
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch
from diffaccel.search.decide import decide_cells
from diffaccel.search.estimates import Estimate
from diffaccel.search.measuring import opened
from diffaccel.search.requests import Measurer
from diffaccel.store.jsonio import digest, read_record, today, write_record

CLOCKINGS = 3
"""How often the bounds are timed beside each other when all is decided."""


@dataclass(frozen=True)
class Side:
    """A candidate that was chosen, by the search or from the table.

    Args:
        speedup: over all pairs of the comparison, the median; without one, what whoever chose it
            believes.
        loss: relative, over all prompts, as it was when the candidate was chosen.
    """

    parameters: ParametersDict
    speedup: float
    loss: float


@dataclass(frozen=True)
class Decided:
    """A cell that was decided live, and what its table says.

    Args:
        candidates: of the space that was searched.
        seconds: of evaluation, scoring and timing, until the bound and all of `TARGETS` were
            decided.
        bound: what the search chose; None where nothing keeps the limit.
        met: of each target, whether it is called met.
        tabulated, whole: candidates of the table, and the GPU-seconds that all of it takes, as many
            prompts a call.
        best: the fastest candidate within the limit that the table has.
        meets: of each target, whether a candidate of the table meets it.
    """

    cell: str
    candidates: int
    evaluated: int
    timed: int
    seconds: float
    bound: Side | None
    met: list[bool]
    tabulated: int
    whole: float
    best: Side | None
    meets: list[bool]

    @property
    def regret(self) -> float:
        """What the bound lacks of the faster of the two, the baseline pipeline among them."""
        own, best = (
            max(1.0, side.speedup) if side and side.loss < LIMIT else 1.0
            for side in (self.bound, self.best)
        )
        return 1 - own / max(own, best)


@dataclass(frozen=True)
class Session:
    """The cells of one configuration, decided together as the workflow does it.

    Args:
        spread: standard deviation of a pair's ratio when the bounds were compared, the median over
            the candidates; None where they were not.
    """

    configuration: str
    cells: list[Decided]
    spread: float | None
    environment: Environment
    date: str


@dataclass(frozen=True)
class Sessions:
    """All that was decided live on a platform."""

    sessions: list[Session]


def decide(plan: Plan, table: Table) -> Iterator[Session]:
    """Decides all cells of a configuration: the answers, and then the same ones compared with the
    table's by one timing. What was measured stays in the plan's folder."""
    if not plan.record.exists():
        with devices.hold_device() as device:
            Opened.of(plan, device)
    baseline = read_record(Baseline, plan.record)
    options = SearchOptions("frontier")
    with opened(list(plan.points), baseline, plan.images, plan.folder, options) as (
        cells,
        measurer,
    ):
        decide_cells(cells, measurer, TARGETS, LIMIT)
        known = answers(cells, table)
        made = Session(plan.configuration.slug, known, None, baseline.environment, today())
        yield made
        found, spread = compared(cells, made.cells, measurer)
        yield dataclasses.replace(made, cells=found, spread=round(spread, 4))


def answers(cells: Sequence[CellSearch], table: Table) -> list[Decided]:
    """Cells that were decided, beside their table."""
    # The speeds as the table has them: their nugget is of no concern here.
    truth = Truth.of(table.but(nugget=0.0), seed=0)
    return [_decided(cell, truth) for cell in cells]


def _decided(cell: CellSearch, truth: Truth) -> Decided:
    chosen, good = cell.predictions.bound(LIMIT), truth.good[cell.cell]
    best = pareto.bound(good, LIMIT)
    calls = truth.table.baseline.spec.batch_size
    return Decided(
        cell=cell.cell.slug,
        candidates=cell.space.size,
        evaluated=len(cell.history.evaluations),
        timed=len(cell.history.timings),
        seconds=round(cell.history.seconds, 1),
        bound=_side(chosen) if chosen else None,
        met=[cell.predictions.best(meet, LIMIT) is not None for meet in MEETING],
        tabulated=len(truth.table.rows[cell.cell]),
        whole=round(whole_seconds(truth, cell.cell, calls), 1),
        best=_side(best) if best else None,
        meets=[meet(good) is not None for meet in MEETING],
    )


def _side(chosen: Measurement | Estimate) -> Side:
    return Side(chosen.parameters, round(chosen.speedup, 4), round(chosen.loss, 5))


def compared(
    cells: Sequence[CellSearch], found: Sequence[Decided], measurer: Measurer
) -> tuple[list[Decided], float]:
    """The same with what one timing says of all bounds, and how noisy it was."""
    wanted = {
        digest(side.parameters): (cell.cell, side.parameters)
        for cell, each in zip(cells, found, strict=True)
        for side in (each.bound, each.best)
        if side is not None
    }
    ratios: dict[str, list[float]] = {key: [] for key in wanted}
    for _ in range(CLOCKINGS):
        for row in measurer.time_candidates(list(wanted.values())):
            if row.timing is not None:
                ratios[digest(row.parameters)] += [plain / own for plain, own in row.timing.pairs]
    speedups = {key: round(float(np.median(each)), 4) for key, each in ratios.items()}
    spread = float(np.median([np.std(np.log(each)) for each in ratios.values()]))
    return [_with(each, speedups) for each in found], spread


def _with(each: Decided, speedups: dict[str, float]) -> Decided:
    bound, best = (
        side and dataclasses.replace(side, speedup=speedups[digest(side.parameters)])
        for side in (each.bound, each.best)
    )
    return dataclasses.replace(each, bound=bound, best=best)


def keep(made: Session, path: Path) -> None:
    """Puts a session into a file, in place of an older one of the same configuration."""
    known = {each.configuration: each for each in kept(path)}
    write_record(path, Sessions(list((known | {made.configuration: made}).values())))


def kept(path: Path) -> list[Session]:
    """The sessions in a file; none without one."""
    return read_record(Sessions, path).sessions if path.exists() else []
