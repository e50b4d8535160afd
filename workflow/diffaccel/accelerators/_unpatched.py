"""Putting a pipeline back as it was, whatever was patched on it.

The accelerators' packages replace ``forward`` on instances, change classes, add attributes and
hooks, and take off some of it or none. Here it does not matter which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PLAIN = "_diffaccel_plain"
"""Attribute of a pipeline inside `unpatched`: its state outside of the outermost block."""


class _State:
    """Classes, attributes and hooks of a pipeline and all its modules; weights are not copied."""

    def __init__(self, pipe: DiffusionPipeline) -> None:
        from torch import nn

        components = [part for part in vars(pipe).values() if isinstance(part, nn.Module)]
        modules = dict.fromkeys(module for part in components for module in part.modules())
        self._objects = [(each, type(each), dict(vars(each))) for each in (pipe, *modules)]
        # Hooks stand in dictionaries that their handles refer to: same object, old content.
        self._hooks = [
            (hooks, dict(hooks))
            for module in modules
            for name, hooks in vars(module).items()
            if name.endswith("_hooks") and isinstance(hooks, dict)
        ]

    def restore(self) -> None:
        for each, kind, attributes in self._objects:
            each.__class__ = kind
            _refill(vars(each), attributes)
        for hooks, content in self._hooks:
            _refill(hooks, content)


def _refill(mapping: dict[str, Any], content: dict[str, Any]) -> None:
    mapping.clear()
    mapping.update(content)


@contextmanager
def unpatched(pipe: DiffusionPipeline) -> Iterator[None]:
    """A block that begins with the plain pipeline and undoes at its end all that was set inside.

    Within another such block, the plain pipeline is the one outside of the outermost.
    """
    before = _State(pipe)
    plain: _State | None = vars(pipe).get(PLAIN)
    if plain is not None:
        plain.restore()
    vars(pipe)[PLAIN] = plain or before
    try:
        yield
    finally:
        before.restore()
