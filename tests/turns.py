"""Which cases of a test over several axes are part of `make test`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from _pytest.mark import ParameterSet


def in_turns(*axes: Iterable[Any]) -> list[Any]:
    """All combinations of the axes' values, for `pytest.mark.parametrize`: each value of the
    longest axis once, with those of the others in turns; all others are `long`."""
    values = [[*axis] for axis in axes]
    longest = max(range(len(values)), key=lambda axis: len(values[axis]))
    found = []
    for places in itertools.product(*(range(len(axis)) for axis in values)):
        turn = places[longest]
        short = all(place == turn % len(axis) for place, axis in zip(places, values, strict=True))
        case = [axis[place] for place, axis in zip(places, values, strict=True)]
        marks = [] if short else [pytest.mark.long]
        found.append(pytest.param(*case, marks=marks, id="-".join(map(_word, case))))
    return found


def _word(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)


def first(values: Iterable[Any], count: int = 1) -> list[Any]:
    """Values of one axis, or cases, for `pytest.mark.parametrize`: all but the first are `long`."""
    every = [*values]
    return [*every[:count], *map(_later, every[count:])]


def _later(value: Any) -> Any:
    if isinstance(value, ParameterSet):
        return pytest.param(*value.values, marks=[*value.marks, pytest.mark.long], id=value.id)
    return pytest.param(value, marks=pytest.mark.long)
