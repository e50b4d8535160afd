"""The schedulers, one file each; see `base` for what one declares."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler
from diffaccel.registry import Registry

SCHEDULERS: Registry[Scheduler] = Registry("diffaccel.plugins.schedulers", "scheduler")


def scheduler_class(name: str) -> str:
    """diffusers' class of a scheduler that is named as in tasks.

    Raises:
        UnknownNameError: no scheduler has this name.
    """
    return SCHEDULERS[name].diffusers


__all__ = ["SCHEDULERS", "Scheduler", "scheduler_class"]
