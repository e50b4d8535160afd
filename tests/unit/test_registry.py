from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diffaccel.plugins.accelerators import ACCELERATORS
from diffaccel.registry import PluginError, Registry, UnknownNameError, suggest

PLUGIN = "class P:\n    name = {name!r}\nPLUGIN = P()\n"
Make = Callable[..., Registry[Any]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Registry of a package with these modules, given as source."""
    package = f"plugins_of_{tmp_path.name}"

    def registry(**modules: str) -> Registry[Any]:
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source, encoding="utf-8")
        return Registry(package, "thing")

    monkeypatch.syspath_prepend(tmp_path)
    yield registry
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def test_a_file_is_a_plugin(make: Make) -> None:
    found = make(second=PLUGIN.format(name="b"), first=PLUGIN.format(name="a"))
    assert list(found) == ["a", "b"]
    assert len(found) == 2
    assert "a" in found and "c" not in found
    assert found["b"].name == "b"


def test_helpers_are_no_plugins(make: Make) -> None:
    found = make(base="", _helper="", real=PLUGIN.format(name="real"))
    assert list(found) == ["real"]


def test_nothing_is_imported_before_it_is_needed(make: Make) -> None:
    found = make(broken="raise RuntimeError('imported')")
    with pytest.raises(PluginError):
        len(found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError: No module named"),
        ("PLUGGED = 1", "AttributeError: .*PLUGIN"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_broken_file_is_named(make: Make, source: str, message: str) -> None:
    with pytest.raises(PluginError, match=rf"/bad\.py: {message}"):
        list(make(bad=source, good=PLUGIN.format(name="good")))


def test_a_repeated_name_tells_both_files(make: Make) -> None:
    twice = PLUGIN.format(name="same")
    with pytest.raises(PluginError, match=r"/two\.py: the thing 'same' is already in .*/one\.py"):
        list(make(one=twice, two=twice))


def test_an_unknown_name_gets_a_suggestion(make: Make) -> None:
    found = make(one=PLUGIN.format(name="Fourier"))
    with pytest.raises(UnknownNameError, match=r"thing 'fourrier': did you mean 'Fourier'\?"):
        found["fourrier"]
    with pytest.raises(UnknownNameError, match=r"unknown thing 'xyz': Known: Fourier"):
        found["xyz"]


def test_suggestions_ignore_case() -> None:
    assert suggest("DEEPCACHE", ["deepcache", "tome"]).startswith("did you mean 'deepcache'?")


def test_the_accelerators_are_found() -> None:
    assert set(ACCELERATORS) >= {"deepcache", "tgate", "tome"}
    with pytest.raises(UnknownNameError, match="did you mean 'deepcache'"):
        ACCELERATORS["deepcahce"]
