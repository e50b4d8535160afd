"""How long a search or a verification may measure, and how that time is divided among its parts."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

Now = Callable[[], float]


class Budget:
    """Seconds that may be used from now on; what a part of the work leaves goes to those after it.

    Args:
        seconds: None: as long as it takes.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, seconds: float | None = None, now: Now = time.perf_counter) -> None:
        self.seconds = math.inf if seconds is None else seconds
        self._now, self._began, self._share = now, now(), 1.0

    @property
    def limited(self) -> bool:
        return math.isfinite(self.seconds)

    @property
    def left(self) -> float:
        """Seconds until the end of the part that goes on; not negative."""
        if not self.limited:
            return math.inf
        return max(0.0, self._share * self.seconds - (self._now() - self._began))

    @property
    def over(self) -> bool:
        return self.left <= 0

    @contextlib.contextmanager
    def until(self, share: float) -> Iterator[None]:
        """A part of the work, which ends when that share of all seconds is used."""
        before, self._share = self._share, min(share, self._share)
        try:
            yield
        finally:
            self._share = before
