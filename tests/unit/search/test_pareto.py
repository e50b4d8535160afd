"""The answers that are read off measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from diffaccel.search import pareto


@dataclass(frozen=True)
class Seen:
    speedup: float
    loss: float


LIMIT = 0.02
NUMBERS = st.one_of(
    st.floats(-1, 10), st.sampled_from([1.0, 2.0, LIMIT, math.nan, math.inf, -math.inf])
)
SEEN = st.lists(st.builds(Seen, NUMBERS, NUMBERS), max_size=12)


def real(observations: list[Seen]) -> list[Seen]:
    return [o for o in observations if math.isfinite(o.speedup) and math.isfinite(o.loss)]


def test_the_limit_is_strict_and_the_required_speedup_is_not() -> None:
    at_limit, inside = Seen(3.0, 0.02), Seen(2.0, 0.0199)
    assert pareto.bound([at_limit, inside], LIMIT) == inside
    assert pareto.meet([at_limit, inside], 2.0, LIMIT) == inside
    assert pareto.meet([at_limit, inside], 2.01, LIMIT) is None


def test_ties() -> None:
    lossy, clean = Seen(2.0, 0.01), Seen(2.0, 0.001)
    assert pareto.bound([lossy, clean], LIMIT) == clean
    slow, fast = Seen(1.5, 0.001), Seen(1.9, 0.001)
    assert pareto.meet([slow, fast], 1.2, LIMIT) == fast


def test_the_nearest_of_what_misses_the_target() -> None:
    observations = [Seen(1.1, 0.001), Seen(1.4, 0.015), Seen(2.5, 0.3)]
    assert pareto.nearest(observations, 2.0, LIMIT) == Seen(1.4, 0.015)
    assert pareto.nearest(observations, 1.05, LIMIT) == Seen(1.1, 0.001)
    assert pareto.nearest([Seen(3.0, 0.3), Seen(1.5, 0.1)], 2.0, LIMIT) == Seen(1.5, 0.1)


def test_nothing_measured_or_only_crashes_answer_nothing() -> None:
    for observations in ([], [Seen(5.0, math.nan), Seen(5.0, math.inf), Seen(math.nan, 0.0)]):
        assert pareto.bound(observations, LIMIT) is None
        assert pareto.meet(observations, 1.0, LIMIT) is None
        assert pareto.nearest(observations, 1.0, LIMIT) is None
        assert pareto.front(observations) == []


@given(SEEN)
def test_the_front_dominates_everything_and_nothing_on_it_is_dominated(seen: list[Seen]) -> None:
    front = pareto.front(seen)
    for o in real(seen):
        assert any(f.speedup >= o.speedup and f.loss <= o.loss for f in front)
    for slower, faster in pairwise(front):
        assert slower.speedup < faster.speedup and slower.loss < faster.loss


@given(SEEN, st.floats(0.5, 3))
def test_answers_lie_on_the_front(seen: list[Seen], required: float) -> None:
    front = pareto.front(seen)
    assert pareto.bound(seen, LIMIT) == pareto.bound(front, LIMIT)
    assert pareto.meet(seen, required, LIMIT) == pareto.meet(front, required, LIMIT)
