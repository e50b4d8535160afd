"""What every registered strategy must keep, on made-up cells."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from diffaccel.plugins.space import Axis, Space
from diffaccel.search.strategies import STRATEGIES, Observation, Problem
from diffaccel.search.strategies import _rehearsal as rehearsal

LIMIT, TARGETS = rehearsal.LIMIT, rehearsal.TARGETS
CELLS = {
    "deepcache": rehearsal.cell("deepcache", 3).on_grid(),
    "tgate": rehearsal.cell("tgate", 4).on_grid(),
    "tome": rehearsal.cell("tome", 5).on_grid(),
    "infeasible": rehearsal.infeasible(6).on_grid(),
    "crashing": rehearsal.crashing(7).on_grid(),
}
every_strategy = pytest.mark.parametrize("name", list(STRATEGIES))
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def tiny(cell: rehearsal.Cell) -> rehearsal.Cell:
    """The same cell with at most two values an axis."""
    axes = tuple(
        Axis(axis.name, ends := tuple(dict.fromkeys((axis.grid[0], axis.grid[-1]))), ends)
        for axis in cell.space.axes
    )
    return replace(cell, space=replace(cell.space, axes=axes))


def problems(space: Space) -> list[Problem]:
    return [
        Problem(space, LIMIT, TARGETS),
        Problem(space, LIMIT),
        Problem(space, LIMIT, (9.0,), bound=False),
    ]


@every_strategy
@every_cell
def test_asks_only_for_allowed_points_never_twice_and_ends(name: str, cell: rehearsal.Cell) -> None:
    everything = [tuple(p.values()) for p in cell.space.points()]
    for problem in problems(cell.space):
        asked = [tuple(o.point.values()) for o in rehearsal.search(STRATEGIES[name], problem, cell)]
        assert asked
        assert len(asked) == len(set(asked))
        assert set(asked) <= set(everything)


@every_strategy
@every_cell
def test_goes_on_after_an_interruption_at_any_point(name: str, cell: rehearsal.Cell) -> None:
    strategy, problem = STRATEGIES[name], Problem(cell.space, LIMIT, TARGETS)
    whole = rehearsal.search(strategy, problem, cell)
    for cut in range(len(whole)):
        rest = strategy.ask(problem, whole[:cut])
        ahead = [o.point for o in whole[cut : cut + len(rest)]]
        assert rest == ahead, f"after {cut} of {len(whole)} measurements"
    assert strategy.ask(problem, whole) == []


@every_strategy
@every_cell
def test_the_answer_depends_on_the_arguments_alone(name: str, cell: rehearsal.Cell) -> None:
    strategy, problem = STRATEGIES[name], Problem(cell.space, LIMIT, TARGETS)
    history = rehearsal.search(strategy, problem, cell)[:5]
    before = list(history)
    first = strategy.ask(problem, history)
    strategy.ask(Problem(CELLS["tome"].space, LIMIT, (1.1,), seed=9), [])  # something else between
    assert strategy.ask(problem, history) == first
    assert strategy.ask(problem, tuple(history)) == first
    rebuilt = Problem(Space(cell.space.axes, lambda p: cell.space.forbids(p)), LIMIT, TARGETS)
    assert strategy.ask(rebuilt, history) == first
    assert history == before


@every_strategy
@pytest.mark.parametrize("most", [0, 1, 4])
def test_keeps_to_the_largest_number_of_measurements(name: str, most: int) -> None:
    cell = CELLS["deepcache"]
    problem = Problem(cell.space, LIMIT, TARGETS, max_measurements=most)
    assert len(rehearsal.search(STRATEGIES[name], problem, cell)) == most


@every_strategy
@pytest.mark.parametrize("names", ["deepcache", "deepcache+tgate"])
def test_a_tiny_space_and_a_space_with_nothing_allowed(name: str, names: str) -> None:
    cell = tiny(rehearsal.cell(names, 8))
    for problem in problems(cell.space):
        assert rehearsal.search(STRATEGIES[name], problem, cell)
    forbidden = Space(cell.space.axes, lambda point: "no")
    assert STRATEGIES[name].ask(Problem(forbidden, LIMIT, TARGETS), []) == []


@every_strategy
@pytest.mark.parametrize(
    "spoil",
    [
        lambda o: replace(o, loss=float("inf"), speedup=float("nan")),
        lambda o: replace(o, loss=float("nan")),
        lambda o: replace(o, speedup=0.0, loss=1e9),
        lambda o: replace(o, loss=-1e9),
    ],
    ids=["crash", "nan", "stuck", "absurd"],
)
def test_survives_what_measuring_can_give(
    name: str, spoil: Callable[[Observation], Observation]
) -> None:
    cell = CELLS["deepcache"]
    for limit in (LIMIT, 0.0, -0.01):
        history: list[Observation] = []
        problem = Problem(cell.space, limit, TARGETS)
        while asked := STRATEGIES[name].ask(problem, history):
            history += [spoil(cell.measure(point)) for point in asked]
        assert 0 < len(history) <= len(list(cell.space.points()))


@every_strategy
def test_points_of_another_space_are_no_answer_but_no_obstacle(name: str) -> None:
    cell, other = CELLS["deepcache"], CELLS["tgate"]
    problem = Problem(cell.space, LIMIT, TARGETS)
    stranger = other.measure(next(iter(other.space.points())))
    assert STRATEGIES[name].ask(problem, [stranger]) == STRATEGIES[name].ask(problem, [])


def test_no_strategy_imports_torch() -> None:
    code = (
        "import sys; from diffaccel.search.strategies import STRATEGIES; assert list(STRATEGIES); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
