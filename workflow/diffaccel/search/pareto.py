"""Which measurements answer which question. Generic over anything with a speedup and a loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Measured(Protocol):
    """What a question is put to: a speedup (ratio) and a relative loss of the score."""

    @property
    def speedup(self) -> float: ...
    @property
    def loss(self) -> float: ...


M = TypeVar("M", bound=Measured)


def _real(observations: Iterable[M]) -> list[M]:
    """Those with numbers: what crashed or scored NaN answers nothing."""
    return [o for o in observations if math.isfinite(o.speedup) and math.isfinite(o.loss)]


def bound(observations: Iterable[M], loss_limit: float) -> M | None:
    """The fastest whose loss is strictly below the limit (ties: the least loss), or None."""
    good = [o for o in _real(observations) if o.loss < loss_limit]
    return max(good, key=lambda o: (o.speedup, -o.loss), default=None)


def meet(observations: Iterable[M], required: float, loss_limit: float) -> M | None:
    """Of those at least as fast as required and strictly below the limit, the one with the least
    loss (ties: the faster), or None."""
    good = [o for o in _real(observations) if o.speedup >= required and o.loss < loss_limit]
    return min(good, key=lambda o: (o.loss, -o.speedup), default=None)


def nearest(observations: Iterable[M], required: float, loss_limit: float) -> M | None:
    """What comes nearest to a target: what meets it, else the fastest within the limit, else the
    one with the least loss (ties: the faster); None when nothing was measured."""
    real = _real(observations)
    return (
        meet(real, required, loss_limit)
        or bound(real, loss_limit)
        or min(real, key=lambda o: (o.loss, -o.speedup), default=None)
    )


def front(observations: Iterable[M]) -> list[M]:
    """The non-dominated ones, slowest and least lossy first; of equal ones the first."""
    best: list[M] = []
    for o in sorted(_real(observations), key=lambda o: (-o.speedup, o.loss)):
        if not best or o.loss < best[-1].loss:
            best.append(o)
    return best[::-1]
