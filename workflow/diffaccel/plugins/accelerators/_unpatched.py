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


_REGISTERS = ("_modules", "_parameters", "_buffers")


class _State:
    """Classes, attributes, members and hooks of a pipeline and all its modules.

    Weights are not copied: of members, this knows which there are, and not their values.
    """

    def __init__(self, pipe: DiffusionPipeline) -> None:
        from torch import nn

        components = [part for part in vars(pipe).values() if isinstance(part, nn.Module)]
        modules = dict.fromkeys(module for part in components for module in part.modules())
        self._objects = [(each, type(each), dict(vars(each))) for each in (pipe, *modules)]
        # Members and hooks stand in dictionaries that others refer to: same object, old content.
        self._contents = [
            (mapping, dict(mapping))
            for module in modules
            for name, mapping in vars(module).items()
            if (name.endswith("_hooks") or name in _REGISTERS) and isinstance(mapping, dict)
        ]

    def restore(self) -> None:
        for each, kind, attributes in self._objects:
            each.__class__ = kind
            _refill(vars(each), attributes)
        for mapping, content in self._contents:
            _refill(mapping, content)


def _refill(mapping: dict[str, Any], content: dict[str, Any]) -> None:
    mapping.clear()
    mapping.update(content)


@contextmanager
def unpatched(pipe: DiffusionPipeline) -> Iterator[None]:
    """A block that begins with the baseline pipeline and undoes at its end all that was set inside.

    Within another such block, the baseline pipeline is the one outside of the outermost.
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
