"""Making a scheduler: diffusers' own, from the configuration of the one that a model comes with."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffaccel.errors import InputError
from diffaccel.plugins.schedulers._carried import refusal
from diffaccel.plugins.schedulers._names import plugin_of
from diffaccel.plugins.schedulers.base import Option, SchedulerSpec

if TYPE_CHECKING:
    from diffusers import SchedulerMixin


class SchedulerError(InputError):
    """A scheduler that cannot be made of a model's own; says why."""


def own_config(scheduler: SchedulerMixin) -> dict[str, Any]:
    """What a loaded scheduler's file says, or would say."""
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


def made(
    wanted: SchedulerSpec, own: Mapping[str, Any], options: Mapping[str, Option], steps: int
) -> SchedulerMixin:
    """A scheduler as pipelines take it, checked to work in so many steps.

    Args:
        own: configuration of the model's scheduler.
        options: arguments of ``from_config`` besides.

    Raises:
        SchedulerError: it cannot take the place of the model's own, or cannot be made with these
            options or for so many steps, or a package is missing.
    """
    import diffusers

    where = f"scheduler {wanted.name!r}"
    needed = plugin_of(wanted).requires
    if needed is not None and importlib.util.find_spec(needed) is None:
        raise SchedulerError(
            f"{where}: {wanted.diffusers} needs the package {needed}: pip install {needed}"
        )
    if reason := refusal(wanted, {**own, **options, "_class_name": own.get("_class_name")}):
        raise SchedulerError(f"{where}: {reason}")
    kind = getattr(diffusers, wanted.diffusers)
    try:
        scheduler: SchedulerMixin = kind.from_config(dict(own), **options)
        kind.from_config(dict(own), **options).set_timesteps(steps)
    except Exception as error:  # of each class its own
        told = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise SchedulerError(
            f"{where}: {wanted.diffusers} cannot be made with {told} for {steps} steps: "
            f"{type(error).__name__}: {error}"
        ) from error
    return scheduler
