"""What a cell search asks to be measured, and who measures it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from diffaccel.evaluation.records import Evaluation, SpeedRow
from diffaccel.experiment.grid import Cell
from diffaccel.plugins.space import ParametersDict

Wanted = Sequence[tuple[Cell, ParametersDict]]
"""Candidates of cells of one configuration."""


@dataclass(frozen=True)
class Request:
    """What must be done next about a candidate: to evaluate it further, or to time it."""

    what: Literal["evaluate", "time"]
    parameters: ParametersDict


Requests = Iterator[list[Request]]
"""What a cell wants, again and again until it is decided, by what is known when it is asked. What
is to be evaluated must have been when the next list is asked for; what is to be timed may have to
wait as long as other cells evaluate, and is asked for again if it is still wanted then."""


@dataclass(frozen=True)
class EvaluationRequest:
    """A candidate that is to be evaluated with so many prompts, and what was evaluated of it
    before."""

    cell: Cell
    parameters: ParametersDict
    prompts: int
    before: Evaluation | None = None


class Measurer(Protocol):
    """What evaluates and times candidates of the cells of one configuration."""

    def evaluate(self, wanted: Sequence[EvaluationRequest]) -> list[Evaluation]:
        """One evaluation a candidate, in order, with that of before in it."""

    def time_candidates(self, wanted: Wanted, short: Container[str] = ()) -> list[SpeedRow]:
        """One timing a candidate, in order, all timed in the same rounds.

        Args:
            short: digests of those for which few pairs are enough, however much they differ.
        """
