"""How a cell was searched: what was tried when, what it gained, and which parameters mattered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diffaccel.plugins.space import Parameters, flatten
from diffaccel.search.cell import CellSearch
from diffaccel.store.jsonio import digest

FEWEST = 6
"""Evaluations from which it is said which parameters mattered."""


@dataclass(frozen=True)
class Gain:
    """An evaluation after which a faster candidate within the limit was known.

    Args:
        number: of the evaluation, from 1.
        seconds: that evaluations had taken by then.
        parameters: its values, in words.
        speedup, loss: as they are known now.
    """

    number: int
    seconds: float
    parameters: str
    speedup: float
    loss: float


@dataclass(frozen=True)
class Influence:
    """How a parameter goes with what came out, over all evaluations.

    Args:
        parameter: its name.
        values: how many were tried.
        speedup, loss: Spearman's rank correlation with each, from -1 to 1; source: Spearman, "The
            Proof and Measurement of Association between Two Things", American Journal of Psychology
            15, 1904.
    """

    parameter: str
    values: int
    speedup: float
    loss: float


def short(parameters: Parameters) -> str:
    """Parameters without their accelerators' names, which stand beside them already."""
    return " ".join(
        f"{name}={value}" for part in parameters.values() for name, value in part.items()
    )


def gains(search: CellSearch, limit: float) -> Iterator[Gain]:
    """What was gained, in the order in which it was evaluated."""
    known = {digest(each.parameters): each for each in search.predictions.estimates(limit)}
    best, seconds = 1.0, 0.0
    for number, (key, evaluation) in enumerate(search.history.evaluations.items(), start=1):
        seconds += evaluation.spent
        one = known.get(key)
        if one is not None and one.loss < limit and one.speedup > best:
            best = one.speedup
            yield Gain(number, seconds, short(one.parameters), one.speedup, one.loss)


def influences(search: CellSearch, limit: float) -> list[Influence]:
    """The parameters of which several values were tried, those that mattered most for the loss
    first."""
    from scipy.stats import spearmanr

    known = search.predictions.estimates(limit)
    if len(known) < FEWEST:
        return []
    rows = [flatten(each.parameters) for each in known]
    found = []
    for name in rows[0]:
        values = [float(row[name]) for row in rows]
        if len(set(values)) > 1:
            speedup, loss = (
                float(spearmanr(values, [getattr(each, what) for each in known]).statistic)
                for what in ("speedup", "loss")
            )
            found.append(Influence(name, len(set(values)), speedup, loss))
    return sorted(found, key=lambda each: -abs(each.loss))
