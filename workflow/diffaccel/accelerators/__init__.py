"""The accelerators, one file each; see `diffaccel.accelerators.base` for what one declares."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.accelerators.base import (
    Accelerator,
    Combination,
    Emitted,
    PipelineFacts,
    UnsupportedError,
)
from diffaccel.registry import Registry

ACCELERATORS: Registry[Accelerator] = Registry("diffaccel.accelerators", "accelerator")


def combination(names: Sequence[str]) -> Combination:
    """The combination of the accelerators with these short names.

    Raises:
        UnknownNameError: no accelerator has such a name.
        UnsupportedError: none is given, or one is given twice.
    """
    return Combination.of([ACCELERATORS[name] for name in names])


__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "Combination",
    "Emitted",
    "PipelineFacts",
    "UnsupportedError",
    "combination",
]
