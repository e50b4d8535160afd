"""What users import says what it takes, gives and raises."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import diffaccel

ROOMS = [
    f"diffaccel.{module.name}"
    for module in pkgutil.iter_modules(diffaccel.__path__)
    if module.ispkg
]


def exported() -> Iterator[tuple[str, Any]]:
    """Everything that the package and its rooms offer, with the public methods of classes."""
    for name in ("diffaccel", *ROOMS):
        module = importlib.import_module(name)
        for each in getattr(module, "__all__", ()):
            value = getattr(module, each)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{name}.{each}", value
            if inspect.isclass(value):
                for method, found in vars(value).items():
                    if inspect.isfunction(found) and not method.startswith("_"):
                        yield f"{name}.{each}.{method}", found


@pytest.mark.parametrize(
    ("name", "value"), [pytest.param(*each, id=each[0]) for each in exported()]
)
def test_a_docstring(name: str, value: Any) -> None:
    text = inspect.getdoc(value) or ""
    assert text and text.splitlines()[0][0].isupper(), f"{name} says nothing of itself"


def raised(function: Any) -> set[str]:
    """Names of the errors that a function itself raises."""
    return set(re.findall(r"\braise (\w+Error)\(", inspect.getsource(function)))


FUNCTIONS = [
    ("apply", diffaccel.apply),
    ("read_recipe", diffaccel.read_recipe),
    ("Accelerated.__call__", diffaccel.Accelerated.__call__),
    ("Accelerated.remove", diffaccel.Accelerated.remove),
]


@pytest.mark.parametrize(("name", "function"), FUNCTIONS)
def test_arguments_and_errors_of_what_users_call(name: str, function: Any) -> None:
    text = inspect.getdoc(function) or ""
    taken = [each for each in inspect.signature(function).parameters if each != "self"]
    assert [each for each in taken if f"{each}:" not in text] == []
    assert [error for error in raised(function) if error not in text] == []


def test_the_functions_above_are_all_that_users_call() -> None:
    own = {
        name
        for name in diffaccel.__all__
        if inspect.isfunction(getattr(diffaccel, name)) or name == "Accelerated"
    }
    assert own == {name.split(".")[0] for name, _ in FUNCTIONS}
