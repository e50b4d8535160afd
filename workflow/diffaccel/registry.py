"""Plugins found by looking into a folder: one file is one accelerator, model, metric or strategy.

A plugin module says ``PLUGIN = <instance>``; its ``name`` is the key. Modules whose names begin
with an underscore, and ``base``, are helpers. Nothing is registered by hand.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from diffaccel.errors import InputError


class Named(Protocol):
    """What every plugin has."""

    @property
    def name(self) -> str: ...


class PluginError(RuntimeError):
    """A plugin file is broken or takes a name that another file has."""


class UnknownNameError(InputError):
    """A name that no registry entry has; the message lists what is known."""


def suggest(given: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, then all of them."""
    names = list(known)
    by_stem = {_stem(name): name for name in names}
    near = difflib.get_close_matches(_stem(given), by_stem, n=1, cutoff=0.5)
    hint = f"did you mean {by_stem[near[0]]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}"


def _stem(name: str) -> str:
    """Without what all classes of a kind end in, which makes none of them alike."""
    return name.lower().removesuffix("scheduler").removesuffix("pipeline") or name.lower()


T = TypeVar("T", bound=Named)


def plugin_files(package: str) -> list[str]:
    """Names of the modules of a package that hold its plugins. None of them is loaded."""
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    return [
        module.name
        for module in pkgutil.iter_modules(folders)
        if not module.ispkg and module.name != "base" and not module.name.startswith("_")
    ]


class Registry(Mapping[str, T], Generic[T]):
    """The plugins of one package, imported on first use.

    Raises:
        PluginError: a module cannot be imported, has no ``PLUGIN``, or repeats a name.
        UnknownNameError: a name is looked up that no plugin has.
    """

    def __init__(self, package: str, kind: str) -> None:
        self._package = package
        self._kind = kind
        self._found: dict[str, T] | None = None

    def _plugins(self) -> dict[str, T]:
        if self._found is None:
            self._found = self._scan()
        return self._found

    def _scan(self) -> dict[str, T]:
        found: dict[str, T] = {}
        origin: dict[str, str] = {}
        for name in plugin_files(self._package):
            path = f"{self._package.replace('.', '/')}/{name}.py"
            try:
                plugin: T = importlib.import_module(f"{self._package}.{name}").PLUGIN
            except Exception as error:
                raise PluginError(f"{path}: {type(error).__name__}: {error}") from error
            if plugin.name in found:
                raise PluginError(
                    f"{path}: the {self._kind} {plugin.name!r} is already in {origin[plugin.name]}"
                )
            found[plugin.name] = plugin
            origin[plugin.name] = path
        return dict(sorted(found.items()))

    def __getitem__(self, name: str) -> T:
        try:
            return self._plugins()[name]
        except KeyError:
            raise UnknownNameError(
                f"unknown {self._kind} {name!r}: {suggest(name, self._plugins())}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._plugins()

    def __iter__(self) -> Iterator[str]:
        return iter(self._plugins())

    def __len__(self) -> int:
        return len(self._plugins())
