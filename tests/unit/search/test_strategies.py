"""How well the strategies search, on made-up cells (see diffaccel.search.strategies._rehearsal)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from diffaccel.plugins.space import Axis, Point, Space
from diffaccel.search import pareto
from diffaccel.search.gaussian import Floats
from diffaccel.search.losses import scaled
from diffaccel.search.strategies import STRATEGIES, Problem, _candidates
from diffaccel.search.strategies import _rehearsal as rehearsal
from diffaccel.search.strategies.base import Observation
from diffaccel.search.strategies.exhaustive import BATCH
from diffaccel.search.strategies.frontier import CAP

LIMIT, TARGETS = rehearsal.LIMIT, rehearsal.TARGETS
EXHAUSTIVE, FRONTIER = STRATEGIES["exhaustive"], STRATEGIES["frontier"]
FAMILIES = rehearsal.REALISTIC | rehearsal.HOSTILE


@dataclass(frozen=True)
class Summary:
    """Over some seeds: share of bounds within 2% (of what measuring everything gives, and
    of the same without roughness), measurements, targets missed."""

    close: float
    smooth_close: float
    worst: float
    median: float
    most: int
    open: float
    excess: float


@functools.cache
def summary(family: str, seeds: int, *, grid: bool = True) -> Summary:
    cells = [FAMILIES[family](200 + seed) for seed in range(seeds)]
    trials = [rehearsal.trial(FRONTIER, c.on_grid() if grid else c) for c in cells]
    counts = [t.measured for t in trials]
    return Summary(
        close=float(np.mean([t.regret <= 0.02 for t in trials])),
        smooth_close=float(np.mean([t.smooth_regret <= 0.02 for t in trials])),
        worst=max(t.regret for t in trials),
        median=float(np.median(counts)),
        most=max(counts),
        open=float(np.mean([t.open for t in trials])),
        excess=float(np.mean([t.excess for t in trials])),
    )


def grid_size(family: str) -> int:
    return int(np.prod([len(axis.grid) for axis in FAMILIES[family](200).space.axes]))


def test_exhaustive_measures_the_grid_once_in_order() -> None:
    cell = rehearsal.cell("deepcache", 1)
    found = rehearsal.search(EXHAUSTIVE, Problem(cell.space, LIMIT), cell)
    assert [o.point for o in found] == list(cell.space.points(grid=True))


def test_exhaustive_asks_once_what_is_forbidden() -> None:
    cell = rehearsal.cell("deepcache", 1)
    asked: list[Point] = []

    def forbids(point: Point) -> str | None:
        asked.append(point)
        return cell.space.forbids(point)

    space = replace(cell.space, forbids=forbids)
    found = rehearsal.search(EXHAUSTIVE, Problem(space, LIMIT), cell)
    assert len(found) > 3 * BATCH
    assert len(asked) == math.prod(len(axis.grid) for axis in space.axes)


@pytest.mark.parametrize("family", ["deepcache", "tgate", "tome"])
def test_frontier_finds_the_bound_of_one_accelerator(family: str) -> None:
    """Within 2%; of tome, which gives nothing, the fastest of a grid is the luckiest."""
    got = summary(family, 20)
    assert got.most <= grid_size(family) // 4
    assert got.median <= 10
    assert got.close >= (0.5 if family == "tome" else 0.75)
    assert got.smooth_close >= 0.8
    assert got.worst <= 0.1
    assert got.open <= 0.06
    assert got.excess <= 0.15


@pytest.mark.long
@pytest.mark.parametrize("family", ["deepcache+tgate", "deepcache+tome"])
def test_frontier_comes_near_the_bound_of_a_combination(family: str) -> None:
    got = summary(family, 2)
    assert got.most <= CAP < grid_size(family) // 4
    assert got.smooth_close >= 0.65
    assert got.worst <= 0.2
    assert got.open <= 0.12
    assert got.excess <= 0.2


@pytest.mark.long
@pytest.mark.parametrize("family", ["deepcache", "tgate"])
def test_frontier_searches_the_full_space_as_well(family: str) -> None:
    """The hundreds or thousands of points that no grid lists, with no more measurements."""
    got = summary(family, 8, grid=False)
    assert got.most <= grid_size(family) // 4
    assert got.smooth_close >= 0.6
    assert got.open <= 0.07


@pytest.mark.parametrize(
    ("family", "most", "worst"),
    [
        ("infeasible", 6, 0.0),
        ("feasible", 10, 0.05),
        ("useless", 8, 0.06),
        ("plateaus", 11, 0.1),
        ("wavy", 11, 0.4),
        ("crashing", 11, 0.06),
    ],
)
def test_frontier_ends_in_time_where_its_assumptions_fail(
    family: str, most: int, worst: float
) -> None:
    got = summary(family, 12)
    assert got.most <= most
    assert got.worst <= worst
    assert got.smooth_close >= 0.75


def test_frontier_gives_up_on_an_unreachable_target_soon() -> None:
    for seed in range(8):
        cell = rehearsal.cell("deepcache", seed)
        alone = Problem(cell.space, LIMIT, (9.0,), bound=False)
        assert len(rehearsal.search(FRONTIER, alone, cell)) <= 4
        known = rehearsal.search(FRONTIER, Problem(cell.space, LIMIT, TARGETS), cell)
        assert FRONTIER.ask(alone, known) == []


def test_frontier_meets_one_target_with_less_than_the_whole_frontier_takes() -> None:
    counts, wholes = [], []
    for seed in range(12):
        cell = rehearsal.cell("deepcache", seed).on_grid()
        best = pareto.meet(cell.everything(), 1.5, LIMIT)
        found = rehearsal.search(FRONTIER, Problem(cell.space, LIMIT, (1.5,), bound=False), cell)
        got = pareto.meet(found, 1.5, LIMIT)
        assert (got is None) == (best is None)
        if got and best:
            assert got.loss - max(best.loss, 0) <= 0.4 * LIMIT
        counts.append(len(found))
        whole = Problem(cell.space, LIMIT, TARGETS)
        wholes.append(len(rehearsal.search(FRONTIER, whole, cell)))
    assert sum(counts) < sum(wholes)


@pytest.mark.parametrize(
    ("gain", "contaminated", "hopeless"),
    [(0.5, True, False), (0.05, True, True), (0.5, False, True)],
)
def test_frontier_looks_where_little_hope_is_if_much_would_be_gained(
    gain: float, contaminated: bool, hopeless: bool
) -> None:
    """Four standard deviations beyond the limit; accelerators may repair each other there."""
    axes = tuple(Axis(f"{name}.x", (0, 1), (0, 1)) for name in "abc")
    limit = scaled(LIMIT, LIMIT)

    def speeds(points: Sequence[Point]) -> tuple[Floats, Floats]:
        faster = np.array([sum(map(int, point.values())) > 2 for point in points])
        return 0.4 + gain * faster, np.full(len(points), 0.01)

    def losses(points: Sequence[Point]) -> tuple[Floats, Floats]:
        return np.full(len(points), limit + 1.6), np.full(len(points), 0.4)

    problem = Problem(
        Space(axes), LIMIT, speeds=speeds, losses=losses, informed=True, contaminated=contaminated
    )
    known = Observation({axis.name: 0 for axis in axes}, float(np.exp(0.4)), 0.01)
    asked = FRONTIER.ask(problem, [known])
    assert asked == ([] if hopeless else [{axis.name: 1 for axis in axes}])


@pytest.mark.parametrize(("analysis", "first"), [(1.0, 1), (0.1, 2)])
def test_frontier_looks_first_where_it_costs_least_for_what_it_is_worth(
    analysis: float, first: int
) -> None:
    """The faster of two is worth a little less, since it may lose too much; where that shows after
    few prompts, it is evaluated first."""
    axis, limit = Axis("a.x", (0, 1, 2), (0, 1, 2)), scaled(LIMIT, LIMIT)

    def speeds(points: Sequence[Point]) -> tuple[Floats, Floats]:
        return np.array([0.1 * int(point["a.x"]) for point in points]), np.full(len(points), 0.01)

    def losses(points: Sequence[Point]) -> tuple[Floats, Floats]:
        means = [limit + (0.2 if point["a.x"] == 2 else -1.0) for point in points]
        return np.array(means), np.full(len(points), 0.2)

    problem = replace(
        Problem(Space((axis,)), LIMIT, speeds=speeds, losses=losses, informed=True),
        contaminated=True,
        analysis=analysis,
    )
    assert FRONTIER.ask(problem, [Observation({"a.x": 0}, 1.0, 0.0)]) == [{"a.x": first}]


@pytest.mark.parametrize(
    ("speed", "spread", "unsure"), [(0.0, 0.2, True), (0.0, 0.04, False), (0.5, 0.2, False)]
)
def test_frontier_asks_the_clock_first_where_doubt_alone_makes_it_worth_an_evaluation(
    speed: float, spread: float, unsure: bool
) -> None:
    axis, limit = Axis("a.x", (0, 1), (0, 1)), scaled(LIMIT, LIMIT)

    def speeds(points: Sequence[Point]) -> tuple[Floats, Floats]:
        return np.full(len(points), speed), np.full(len(points), spread)

    def losses(points: Sequence[Point]) -> tuple[Floats, Floats]:
        return np.full(len(points), limit - 1.0), np.full(len(points), 0.1)

    problem = Problem(Space((axis,)), LIMIT, speeds=speeds, losses=losses, informed=True)
    known = [Observation({"a.x": 0}, 1.0, 0.0)]
    asked = FRONTIER.ask(problem, known)
    assert asked == [{"a.x": 1}]
    assert FRONTIER.unsure(problem, known, asked) == (asked if unsure else [])


def test_frontier_goes_on_from_what_exhaustive_measured() -> None:
    """Nothing is left to ask about a grid that is known."""
    cell = rehearsal.cell("deepcache", 5).on_grid()
    problem = Problem(cell.space, LIMIT, TARGETS)
    assert FRONTIER.ask(problem, rehearsal.search(EXHAUSTIVE, problem, cell)) == []


def counted(space: Space) -> tuple[Space, Callable[[], int]]:
    calls = [0]

    def forbids(point: Point) -> str | None:
        calls[0] += 1
        return space.forbids(point)

    return replace(space, forbids=forbids), lambda: calls[0]


@pytest.mark.long
def test_frontier_never_walks_through_millions_of_points() -> None:
    cell = rehearsal.cell("deepcache+tgate+tome", 1)
    assert np.prod([len(axis.values) for axis in cell.space.axes]) > 1e6
    space, calls = counted(cell.space)
    found = rehearsal.search(FRONTIER, Problem(space, LIMIT, TARGETS), cell)
    assert 5 < len(found) <= CAP
    assert calls() < 2500 * len(found) + 10 * _candidates.LARGEST


def test_the_seed_evaluates_other_candidates_in_a_large_space() -> None:
    space = rehearsal.cell("deepcache+tgate", 1).space
    first, second, again = (_candidates.pool(space, seed) for seed in (1, 2, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)


def test_a_made_up_cell_measures_the_same_twice_and_as_tabulated() -> None:
    cell = rehearsal.cell("deepcache+tgate", 2).on_grid()
    points = list(cell.space.points())
    table = cell.everything()
    assert len(points) == len(table)
    for index in (0, 17, len(points) - 1):
        once = cell.measure(points[index])
        assert once == cell.measure(points[index])
        assert (once.speedup, once.loss) == pytest.approx(
            (table[index].speedup, table[index].loss), rel=1e-12
        )
