"""What a task asks for, whatever its words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.limits import Limit
from diffaccel.machine import devices
from diffaccel.plugins.schedulers import SchedulerSpec

TRAINED_STEPS = 1000
"""Noise levels that the models are trained on: no sampler can take more steps."""


class Category(IntEnum):
    """Kind of a task, by what it asks for besides a model, a scheduler and steps."""

    PLAIN = 1
    """Nothing: the unaccelerated pipeline."""
    ONE = 2
    """One accelerator."""
    COMBINATION = 3
    """Several accelerators together."""
    SPEEDUP = 4
    """Accelerators, and how much faster they must make it."""
    LATENCY = 5
    """How long an image may take on a named platform, by whatever means."""


@dataclass(frozen=True)
class Request:
    """What a task asks for. What it says nothing about is None, or no accelerators.

    Args:
        model: name as in the grid.
        scheduler: name as in tasks.
        steps: number of inference steps, from 1 to `TRAINED_STEPS`.
        accelerators: short names, sorted. With none, a `Category.LATENCY` leaves the choice open.
        speedup: required, 1 at least.
        max_loss: limit of the relative loss, between 0 and 1, both excluded. Where accelerators or
            a latency are asked for without one, the configured one holds.
        platform: what ``latency_s`` is for, as ``devices.slug`` writes it.
        latency_s: limit of the seconds per image: of a whole call over the images of the call.
        limits: of other metrics than the loss's, at most one each.
        own_scheduler: what the scheduler's name stands for, where a user's configuration says it.

    Raises:
        ValueError: a value is out of these bounds, or is there without what it needs.
    """

    model: str
    scheduler: str
    steps: int
    accelerators: tuple[str, ...] = ()
    speedup: float | None = None
    max_loss: float | None = None
    platform: str | None = None
    latency_s: float | None = None
    own_scheduler: SchedulerSpec | None = None
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value not in (None, ())}
        problems = [problem(name, value) for name, value in given.items()]
        problems += [conflict(given), *(f"no {name} given" for name in lacking(given))]
        if any(problems):
            raise ValueError("; ".join(problem for problem in problems if problem))

    @property
    def configuration(self) -> Configuration:
        """What is to be made, with or without accelerators."""
        return Configuration(self.model, self.scheduler, self.steps, self.own_scheduler)

    @property
    def category(self) -> Category:
        """Which of the five kinds it is."""
        if self.latency_s is not None:
            return Category.LATENCY
        if self.speedup is not None:
            return Category.SPEEDUP
        return (Category.PLAIN, Category.ONE, Category.COMBINATION)[min(len(self.accelerators), 2)]


def lacking(given: Collection[str]) -> list[str]:
    """Fields that a request needs besides those that are given, in their order."""
    needed = {"model", "scheduler", "steps"}
    if {"platform", "latency_s"} & set(given):
        needed |= {"platform", "latency_s"}
    elif {"speedup", "max_loss", "limits"} & set(given):
        needed.add("accelerators")
    return [name for name in Request.__dataclass_fields__ if name in needed - set(given)]


def conflict(given: Collection[str]) -> str | None:
    """Why a request cannot have all these fields, or None."""
    if {"speedup", "latency_s"} <= set(given):
        return "a speedup and a latency cannot be asked for in one task: leave one out"
    return None


def problem(name: str, value: Any) -> str | None:
    """What is wrong with the value of a field, or None."""
    return CHECKS[name](value) if name in CHECKS else None


def _check_steps(steps: int) -> str | None:
    if 1 <= steps <= TRAINED_STEPS:
        return None
    return f"the steps must lie between 1 and {TRAINED_STEPS}, not {steps}"


def _check_accelerators(names: tuple[str, ...]) -> str | None:
    if names and list(names) == sorted(set(names)):
        return None
    return f"one accelerator or several different ones are needed, not {list(names)}"


def _check_speedup(speedup: float) -> str | None:
    if 1 <= speedup < math.inf:
        return None
    return f"the speedup must be 1 or more, not {speedup}"


def _check_loss(loss: float) -> str | None:
    if 0 < loss < 1:
        return None
    return f"the loss must lie between 0 and 1, e.g. 0.02 or 2%, not {loss}"


def _check_limits(limits: tuple[Limit, ...]) -> str | None:
    names = [each.metric for each in limits]
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"one limit a metric, not several of {', '.join(twice)}" if twice else None


def _check_platform(platform: str) -> str | None:
    if platform and devices.slug(platform) == platform:
        return None
    return f"a platform reads as in results/<platform>, e.g. cpu, not {platform!r}"


def _check_latency(seconds: float) -> str | None:
    if 0 < seconds < math.inf:
        return None
    return f"the latency must be above 0 seconds per image, not {seconds}"


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "steps": _check_steps,
    "accelerators": _check_accelerators,
    "speedup": _check_speedup,
    "max_loss": _check_loss,
    "limits": _check_limits,
    "platform": _check_platform,
    "latency_s": _check_latency,
}
"""Field of `Request` -> what is wrong with a value of it, or None."""
