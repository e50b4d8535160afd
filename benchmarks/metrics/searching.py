"""What a search costs with more limits than one, and which bounds it finds: replayed on a table
that has the values of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.search.replay import Outcome, replay
from benchmarks.search.tables import Table
from benchmarks.search.truth import LIMIT, TARGETS, USUAL, Asked, Truth
from diffaccel.evaluation.limits import used
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import PRESETS, Limit, read_limits
from diffaccel.plugins.space import ParametersDict
from diffaccel.search import pareto
from diffaccel.search.estimates import Estimate
from diffaccel.store.jsonio import digest

STRATEGY = "frontier"
BATCH = 8
"""Prompts a call, as in the benchmark of the search."""
SAME = PRESETS["same"]
ASKED: Mapping[str, Asked] = {
    "loss": USUAL,
    "loss, PSNR": Asked(limits=read_limits({"psnr": SAME["psnr"]})),
    "loss, PSNR, SSIM": Asked(limits=read_limits(SAME)),
}
"""Searched with one limit, which is the preset `good`; with two; and with three: `same`."""
STRICTER: Mapping[str, Asked] = {
    "loss 1%": Asked(loss_limit=0.01),
    "loss 0.5%": Asked(loss_limit=0.005),
}
"""One limit that fewer candidates keep."""
QUIET = 0.011
"""Standard deviation of a timed pair's ratio on a machine that does nothing else, as it was when
the whole grid of the same configuration was recorded; replays take it in place of a noisier one."""
BOUND = "bound alone: "
EVERY: Mapping[str, Asked] = {
    **ASKED,
    **STRICTER,
    **{BOUND + name: replace(asked, targets=()) for name, asked in {**ASKED, **STRICTER}.items()},
}
"""All that is searched; without targets the bound alone is asked for."""


@dataclass(frozen=True)
class Found:
    """Searches of one cell with the same limits; a list has one value a seed.

    Args:
        full: cost in evaluations and timings of one whole candidate, of the mean speed.
        evaluated: candidates, with some prompts at least.
        images: that were generated to be scored.
        timed: timings of a candidate.
        wrong: verdicts on targets.
        bounds: parameters of the bound, None where nothing was chosen.
    """

    configuration: str
    cell: str
    limits: str
    candidates: int
    full: list[float]
    evaluated: list[int]
    images: list[int]
    timed: list[int]
    regret: list[float]
    wrong: list[int]
    bounds: list[ParametersDict | None]


@dataclass(frozen=True)
class Replays:
    """All of them.

    Args:
        batch: prompts a call.
        tables: hashes of their files.
    """

    found: list[Found]
    batch: int
    tables: dict[str, str]
    date: str


def searched(
    table: Table, seeds: int, progress: Callable[[str], None] = lambda said: None
) -> list[Found]:
    """Searches a table's cells with each of `EVERY`, under so many seeds."""
    table = table.but(noise=min(QUIET, table.provenance.noise))
    found = []
    for name, asked in EVERY.items():
        outcomes: dict[str, list[Outcome]] = {}
        for seed in range(seeds):
            for each in replay(table, STRATEGY, seed, BATCH, asked):
                outcomes.setdefault(each.cell, []).append(each)
        progress(f"{table.baseline.configuration.slug}: {name}")
        configuration = table.baseline.configuration.slug
        found += [_found(configuration, name, group) for group in outcomes.values()]
    return found


def _found(configuration: str, limits: str, group: Sequence[Outcome]) -> Found:
    return Found(
        configuration=configuration,
        cell=group[0].cell.removeprefix(f"{configuration}_"),
        limits=limits,
        candidates=group[0].candidates,
        full=[round(each.seconds / each.whole * each.candidates, 3) for each in group],
        evaluated=[each.evaluated for each in group],
        images=[each.images for each in group],
        timed=[each.timed for each in group],
        regret=[round(each.regret, 5) for each in group],
        wrong=[each.wrong for each in group],
        bounds=[None if each.bound is None else each.bound.parameters for each in group],
    )


def of_means(table: Table) -> Table:
    """A table that has no more than means, as if each image had the mean: limits but the loss limit
    are then clear at once."""
    count = len(table.baseline.prompts)
    rows = {
        cell: [
            row
            if row.failure
            else replace(row, images={"psnr": (row.psnr,) * count, "ssim": (row.ssim,) * count})
            for row in each
        ]
        for cell, each in table.rows.items()
    }
    return replace(table, rows=rows)


@dataclass(frozen=True)
class Cost:
    """Of some searches with the same limits: means over cells and seeds.

    Args:
        times: the cost over that of the same searches with the loss limit of 2% alone.
        worst_regret: of one search.
        wrong: of a hundred targets.
    """

    full: float
    times: float
    evaluated: float
    images: float
    timed: float
    regret: float
    worst_regret: float
    wrong: float


def costs(found: Iterable[Found]) -> dict[str, Cost]:
    """By limits."""
    groups: dict[str, list[Found]] = {}
    for each in found:
        groups.setdefault(each.limits, []).append(each)
    one = {
        bound: _mean(groups[bound + "loss"], lambda each: each.full)
        for bound in ("", BOUND)
        if bound + "loss" in groups
    }
    return {
        name: _cost(group, one[BOUND if name.startswith(BOUND) else ""])
        for name, group in groups.items()
    }


def _cost(group: Sequence[Found], one: float) -> Cost:
    full = _mean(group, lambda each: each.full)
    return Cost(
        full=full,
        times=full / one,
        evaluated=_mean(group, lambda each: each.evaluated),
        images=_mean(group, lambda each: each.images),
        timed=_mean(group, lambda each: each.timed),
        regret=_mean(group, lambda each: each.regret),
        worst_regret=max(max(each.regret) for each in group),
        wrong=100 * _mean(group, lambda each: each.wrong) / len(TARGETS),
    )


def _mean(group: Sequence[Found], of: Callable[[Found], Sequence[float]]) -> float:
    return float(np.mean([value for each in group for value in of(each)]))


# ---- bounds -------------------------------------------------------------------------------------


def best(
    table: Table, limits: Sequence[Limit], *, loss: bool = True
) -> dict[Cell, Estimate | None]:
    """The fastest candidate of each cell that keeps the limits, of all in the table.

    Args:
        loss: whether the loss limit of the CLIP score is one of them.
    """
    truth = Truth.of(table.but(nugget=0.0), 0, Asked(limits=tuple(limits)))
    if loss:
        return {cell: pareto.bound(good, LIMIT) for cell, good in truth.good.items()}
    share = others(table, limits)
    return {
        cell: max(
            (each for each in good if share[digest(each.parameters)] < 1),
            key=lambda each: each.speedup,
            default=None,
        )
        for cell, good in truth.good.items()
    }


def others(table: Table, limits: Sequence[Limit]) -> dict[str, float]:
    """How much of the most used limit each candidate uses, but for the loss limit; by digest."""
    baseline, confidence = table.baseline.scores, table.baseline.options.confidence
    return {
        row.key: max(used(each, baseline, row.values, confidence)[0] for each in limits)
        for rows in table.rows.values()
        for row in rows
        if row.failure is None
    }
