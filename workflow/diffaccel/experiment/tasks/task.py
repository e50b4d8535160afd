"""What is asked of a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import Limit
from diffaccel.store.jsonio import UNSAID


@dataclass(frozen=True)
class Task:
    """One request, before it is answered. A task that was not understood has no cell.

    Args:
        origin: ``target`` (a configured speedup), ``bound`` (a share of the stored bound) or
            ``user`` (a line of the user's list).
        required: the speedup asked for. For ``bound`` and for a latency it is known only once these
            are; where the fastest is asked for, it is what was found.
        fraction: for ``bound``, the share of the stored ``max_speedup``.
        sentence: as given, or as made.
        problem: why a sentence could not be understood.
        latency_s: the seconds per image asked for; with neither these nor a speedup nor a fraction,
            the fastest is.
        limits: all that must be kept beside ``max_loss``, where the sentence says something of it;
            None: what the search of its cell was asked for.
    """

    id: str
    origin: Literal["target", "bound", "user"]
    cell: Cell | None
    required: float | None
    fraction: float | None
    max_loss: float
    sentence: str | None
    problem: str | None = None
    latency_s: float | None = None
    limits: Annotated[tuple[Limit, ...] | None, UNSAID] = None

    @property
    def fastest(self) -> bool:
        """Whether the fastest is asked for that loses no more than it may."""
        return self.required is None and self.fraction is None and self.latency_s is None
