"""What is true of a table's candidates: what an evaluation of them gives, and which is the best."""

from __future__ import annotations

import functools
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.search.tables import Row, Table
from diffaccel.evaluation.limits import with_used
from diffaccel.evaluation.records import Evaluation
from diffaccel.evaluation.scores import loss_interval, loss_of
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import Limit
from diffaccel.experiment.options import SearchOptions
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.space import ParametersDict
from diffaccel.search import pareto
from diffaccel.search.estimates import Estimate
from diffaccel.store.jsonio import digest

LIMIT = 0.02
TARGETS = (1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 4.0)


@dataclass(frozen=True)
class Asked:
    """What is asked of each cell: the fastest candidate that keeps the limits, and the one of least
    loss at each target.

    Args:
        limits: beside the loss limit; the table has values of each image of their metrics.
    """

    loss_limit: float = LIMIT
    limits: tuple[Limit, ...] = ()
    targets: tuple[float, ...] = TARGETS


USUAL = Asked()


@dataclass(frozen=True)
class Truth:
    """What is true of a configuration under one seed.

    Args:
        rows, speedups: by digest of the candidate.
        losses: the same; with limits beside the loss limit what is compared with it.
        good: of each cell, the candidates that work.
        best: of each cell, the largest speedup within the limit.
    """

    table: Table
    asked: Asked
    rows: dict[str, Row]
    speedups: dict[str, float]
    losses: dict[str, float]
    good: dict[Cell, list[Estimate]]
    best: dict[Cell, float | None]

    @classmethod
    def of(cls, table: Table, seed: int, asked: Asked = USUAL) -> Truth:
        rows = {row.key: row for each in table.rows.values() for row in each}
        nugget = table.provenance.nugget
        speedups = {
            key: row.speedup * math.exp(nugget * normal(key, seed)) for key, row in rows.items()
        }
        losses = decisive_losses(table, asked) if asked.limits else table.losses
        good = {
            cell: [
                Estimate(row.parameters, speedups[row.key], losses[row.key])
                for row in each
                if row.failure is None
            ]
            for cell, each in table.rows.items()
        }
        bounds = {cell: pareto.bound(each, asked.loss_limit) for cell, each in good.items()}
        best = {cell: bound.speedup if bound else None for cell, bound in bounds.items()}
        return cls(table, asked, rows, speedups, losses, good, best)

    def of_parameters(self, parameters: ParametersDict) -> Estimate:
        """The truth about a candidate that works."""
        key = digest(parameters)
        return Estimate(parameters, self.speedups[key], self.losses[key])


def normal(key: str, seed: int, number: int = 0) -> float:
    """A standard normal number that depends on nothing but its arguments."""
    return float(np.random.default_rng([seed, number, zlib.crc32(key.encode())]).normal())


@functools.lru_cache(maxsize=20_000)
def _interval(before: tuple[float, ...], after: tuple[float, ...], confidence: float) -> Any:
    return loss_interval(before, after, confidence)


def evaluation_of(table: Table, row: Row, prompts: int, took: float) -> Evaluation:
    """What a candidate generates of the first prompts."""
    if not row.scores:
        return Evaluation(row.parameters, 1.0, (1.0, 1.0), {}, {}, None, took, "", row.failure)
    before, after = tuple(table.baseline.scores[SCORE][:prompts]), row.scores[:prompts]
    return Evaluation(
        parameters=row.parameters,
        loss=loss_of(before, after),
        loss_interval=_interval(before, after, table.baseline.options.confidence),
        scores={name: values[:prompts] for name, values in row.values.items()},
        means={SCORE: float(np.mean(after)), "ssim": row.ssim, "psnr": row.psnr},
        first_call=None,
        spent=took,
        date="",
        failure=row.failure,
    )


def bound_regret(truth: Truth, cell: Cell, chosen: Estimate | None) -> float:
    """Share of the largest true speedup within the limit that the chosen candidate lacks; 1 where
    one beyond the limit is chosen. The baseline pipeline is always at hand: nothing below 1x is
    lost."""
    best = max(1.0, truth.best[cell] or 0.0)
    if chosen is None:
        return 1 - 1 / best
    real = truth.of_parameters(chosen.parameters)
    return 1.0 if real.loss >= truth.asked.loss_limit else 1 - max(1.0, real.speedup) / best


def decisive_losses(table: Table, asked: Asked) -> dict[str, float]:
    """What is compared with the loss limit where there are other limits, too, over all prompts, by
    digest of the candidate; infinite where it failed."""
    options, prompts = (
        SearchOptions("exhaustive", limits=asked.limits),
        len(table.baseline.prompts),
    )
    found = {}
    for row in (row for each in table.rows.values() for row in each):
        found[row.key] = math.inf
        if row.failure is None:
            made = with_used(evaluation_of(table, row, prompts, 0.0), table.baseline, asked.limits)
            found[row.key] = options.decisive(made, asked.loss_limit)
    return found
