"""The accelerators, one file each; see `base` for what one declares."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.plugins.accelerators._combination import Combination
from diffaccel.plugins.accelerators._pipeline import PipelineSpec
from diffaccel.plugins.accelerators.base import Accelerator, Emitted, UnsupportedError
from diffaccel.plugins.space import ParametersDict
from diffaccel.registry import Registry
from diffaccel.store.jsonio import digest
from diffaccel.store.source import hash_of

ACCELERATORS: Registry[Accelerator] = Registry("diffaccel.plugins.accelerators", "accelerator")


def combination(names: Sequence[str]) -> Combination:
    """The combination of the accelerators with these short names.

    Raises:
        UnknownNameError: no accelerator has such a name.
        UnsupportedError: none is given, or one is given twice.
    """
    return Combination.of([ACCELERATORS[name] for name in names])


def sources(parameters: ParametersDict) -> dict[str, str]:
    """Hash of the source of each accelerator of a candidate, and of what puts it on."""
    known = [name for name in sorted(parameters) if name in ACCELERATORS]
    together = hash_of(Combination.__module__)
    return {
        name: digest([hash_of(type(ACCELERATORS[name]).__module__), together]) for name in known
    }


__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "Combination",
    "Emitted",
    "PipelineSpec",
    "UnsupportedError",
    "combination",
    "sources",
]
