"""What is known of the speed and the loss of one candidate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from diffaccel.plugins.space import ParametersDict
from diffaccel.search.acquisition import EXACT

MOST_TIMINGS = 3
"""Timings of a candidate at most."""
CONFIDENT = 1.28
"""By how many standard deviations an answer must be as fast as it should: a chance of 90%."""


@dataclass(frozen=True)
class Estimate:
    """A candidate that was evaluated, and what is known of its speed.

    Args:
        speedup: what all timings of the configuration together let expect, its own among them.
        loss: what is compared with the limit.
        error: standard deviation of the logarithm of ``speedup``.
        timings: how often it was timed itself.
        measured: the speedup that these gave; None where it was not timed.
    """

    parameters: ParametersDict
    speedup: float
    loss: float
    error: float = EXACT
    timings: int = 0
    measured: float | None = None

    @property
    def timed(self) -> bool:
        """Whether it was timed itself."""
        return self.timings > 0

    def timed_twice(self, precision: float) -> bool:
        """Whether it was timed twice, and often enough to know it so well, relative."""
        return self.timings == MOST_TIMINGS or (self.timings > 1 and self.error <= precision)

    def reported(self) -> Estimate:
        """The same with the reported speedup: that was measured, and is expected."""
        return replace(self, speedup=min(self.speedup, self.measured or self.speedup))

    def with_confidence(self, speedup: float, precision: float) -> bool:
        """Whether it is as fast as that within a precision, as far as timings can tell."""
        off = math.log(self.speedup / speedup) + precision
        reached = self.measured is None or self.measured >= speedup
        return reached and off >= CONFIDENT * self.error


Choose = Callable[[list[Estimate]], Estimate | None]
