from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffaccel.plugins.space import Axis, Space, flatten, nest

names = st.text("abcdefgh_", min_size=1, max_size=8)
values = st.one_of(st.integers(0, 50), st.booleans(), st.floats(0, 1))


def test_an_axis_needs_values_and_a_grid() -> None:
    with pytest.raises(ValueError, match="axis a: no values"):
        Axis("a", (), ())
    with pytest.raises(ValueError, match="axis a: no values"):
        Axis("a", (1,), ())


def test_a_grid_is_among_the_values() -> None:
    with pytest.raises(ValueError, match=r"axis a: grid values \[4\] are not among \(1, 2\)"):
        Axis("a", (1, 2), (1, 4))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_points_are_the_product_mildest_first(sizes: list[int]) -> None:
    axes = tuple(Axis(f"a{i}", tuple(range(n)), tuple(range(n))) for i, n in enumerate(sizes))
    found = [tuple(point.values()) for point in Space(axes).points()]
    assert found == list(itertools.product(*(range(n) for n in sizes)))


def test_points_leave_out_what_is_forbidden() -> None:
    axes = (Axis("a", (1, 2, 3), (1, 3)), Axis("b", (True, False), (True,)))
    space = Space(axes, lambda point: "not both" if point["a"] == 3 and point["b"] else None)
    assert {"a": 3, "b": True} not in list(space.points())
    assert len(list(space.points())) == 5
    assert list(space.points(grid=True)) == [{"a": 1, "b": True}]


def test_levels_run_from_the_mildest_to_the_most_aggressive() -> None:
    space = Space((Axis("gate", (20, 10, 5), (20,)), Axis("alone", (7,), (7,))))
    assert space.levels({"gate": 20, "alone": 7}) == (0.0, 0.0)
    assert space.levels({"gate": 10, "alone": 7}) == (0.5, 0.0)
    assert space.levels({"gate": 5, "alone": 7}) == (1.0, 0.0)


@given(st.dictionaries(names, st.dictionaries(names, values, min_size=1), max_size=3))
def test_nesting_undoes_flattening(parameters: dict[str, dict[str, int | float | bool]]) -> None:
    assert nest(flatten(parameters)) == parameters
