"""What replays gave: run on all cores, kept as JSON, summed up."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.search.replay import Outcome, replay
from benchmarks.search.tables import Table, read
from benchmarks.search.truth import TARGETS
from diffaccel.store.jsonio import today

REFERENCE = "frontier"
SMALLEST = 0.005
"""Regret of the bound below which one search is not called better than another."""

Floats = Sequence[float]
Curve = Sequence[tuple[float, float]]
"""Places and values of a step function."""


@dataclass(frozen=True)
class Task:
    """One replay."""

    table: Path
    strategy: str
    seed: int
    batch: int


def run(
    tables: Sequence[Path],
    strategies: Sequence[str],
    seeds: int,
    batch: int,
    processes: int,
    progress: Callable[[int, int], None],
) -> list[Outcome]:
    """Replays every strategy on every table under every seed; in a fixed order."""
    tasks = [
        Task(path, name, seed, batch)
        for name in strategies
        for seed in range(seeds)
        for path in tables
    ]
    found: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, outcomes in enumerate(pool.imap_unordered(_replay, tasks), start=1):
            found += outcomes
            progress(number, len(tasks))
    return sorted(found, key=lambda each: (each.strategy, each.cell, each.seed))


def _replay(task: Task) -> list[Outcome]:
    return replay(_read(task.table), task.strategy, task.seed, task.batch)


@functools.lru_cache
def _read(path: Path) -> Table:
    """A table, read once a process: all strategies search it under all seeds."""
    return read(path)


@dataclass(frozen=True)
class Summary:
    """One strategy in one cell; what is a list has one number a seed, unless it is said.

    Args:
        candidates: in the cell's table.
        whole: GPU-seconds that evaluation and timing all of them takes.
        seconds: GPU-seconds until all was decided.
        regret: of the bound.
        wrong: of each target, in how many of the seeds its verdict is wrong.
        excess: of each target, the losses beyond the least there is, where it is rightly met.
        curve: GPU-seconds, and the mean regret of the bound after them.
        date: of the replay, a day in UTC.
    """

    cell: str
    strategy: str
    candidates: int
    whole: float
    evaluated: Floats
    timed: Floats
    seconds: Floats
    regret: Floats
    wrong: list[int]
    excess: list[list[float]]
    curve: list[tuple[float, float]]
    date: str

    @property
    def share(self) -> float:
        """Mean GPU-seconds over those of measuring everything."""
        return float(np.mean(self.seconds)) / self.whole

    @property
    def full(self) -> float:
        """GPU-seconds of one candidate, evaluated and timed, on average."""
        return self.whole / self.candidates

    @property
    def combined(self) -> bool:
        return "+" in self.cell.rsplit("_", 1)[1]  # DPM-Solver++ is none


def summaries(outcomes: Iterable[Outcome]) -> list[Summary]:
    """Sums up over the seeds."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.cell, each.strategy), []).append(each)
    found = []
    for (cell, strategy), group in groups.items():
        by_target = list(zip(*(each.verdicts for each in group), strict=True))
        found.append(
            Summary(
                cell=cell,
                strategy=strategy,
                candidates=group[0].candidates,
                whole=round(float(np.mean([each.whole for each in group])), 2),
                evaluated=[each.evaluated for each in group],
                timed=[each.timed for each in group],
                seconds=[round(each.seconds, 2) for each in group],
                regret=[round(each.regret, 5) for each in group],
                wrong=[sum(wrong for wrong, _ in verdicts) for verdicts in by_target],
                excess=[
                    [round(excess, 5) for _, excess in verdicts if excess is not None]
                    for verdicts in by_target
                ],
                curve=mean_curve([each.curve for each in group]),
                date=today()[:10],
            )
        )
    return found


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean of several step functions, at the places where it changes by what can be seen."""
    slots = sorted({spent for curve in curves for spent, _ in curve})
    found: list[tuple[float, float]] = []
    for place, mean in zip(slots, mean_at(curves, slots), strict=True):
        if not found or abs(mean - found[-1][1]) > 1e-4:
            found.append((round(place, 2), round(float(mean), 5)))
    return found


def mean_at(curves: Sequence[Curve], slots: Floats | np.ndarray) -> np.ndarray:
    """The mean of step functions at places; 1 before their first step."""
    columns = []
    for curve in curves:
        spent, regret = np.array(curve).T
        at = np.searchsorted(spent, slots, side="right") - 1
        columns.append(np.where(at < 0, 1.0, regret[at]))
    return np.mean(columns, axis=0)


def share_to(regret: float, cells: Sequence[Summary]) -> float | None:
    """The share of the GPU-seconds of measuring everything, the same in all of the cells, after
    which their mean regret is no more than that. None: it never is.

    In one cell alone, where nothing is faster than the baseline pipeline, nothing spent would do.
    """
    curves = [[(spent / each.whole, mean) for spent, mean in each.curve] for each in cells]
    slots = sorted({share for curve in curves for share, _ in curve})
    good = mean_at(curves, slots) <= regret
    return slots[int(np.argmax(good))] if good.any() else None


@dataclass(frozen=True)
class Figures:
    """One strategy over some cells and all seeds: medians, and the worst.

    Args:
        share: GPU-seconds over those of measuring everything.
        full: GPU-seconds in full measurements of one candidate.
        wrong: of a hundred targets.
        mean: of the share.
        mean_regret: of the bound.
        equal: share of the GPU-seconds of measuring everything, the same in every cell, after which
            the mean regret over the cells is that of `REFERENCE`; None where it never is.
    """

    seconds: tuple[float, float]
    share: tuple[float, float]
    full: tuple[float, float]
    regret: tuple[float, float]
    excess: tuple[float, float]
    wrong: float
    mean: float
    mean_regret: float
    equal: float | None

    @classmethod
    def of(cls, cells: Sequence[Summary], reference: Sequence[Summary]) -> Figures:
        verdicts = len(TARGETS) * sum(len(each.seconds) for each in cells)
        goal = max(SMALLEST, float(np.mean([each.regret for each in reference])))
        return cls(
            seconds=both([s for each in cells for s in each.seconds]),
            share=both([s / each.whole for each in cells for s in each.seconds]),
            full=both([s / each.full for each in cells for s in each.seconds]),
            regret=both([r for each in cells for r in each.regret]),
            excess=both([x for each in cells for some in each.excess for x in some]),
            wrong=100 * sum(sum(each.wrong) for each in cells) / verdicts,
            mean=float(np.mean([each.share for each in cells])),
            mean_regret=float(np.mean([each.regret for each in cells])),
            equal=share_to(goal, cells),
        )


def median(values: Floats) -> float:
    return float(np.median(values))


def both(values: Floats) -> tuple[float, float]:
    """The median, and the worst."""
    return (median(values), float(np.max(values))) if len(values) else (0.0, 0.0)
