"""The schedulers, one file each; see `base` for what one declares, `_names` for how they are named
and `_carried` for what they take over from a model's own."""

from __future__ import annotations

from diffaccel.plugins.schedulers._carried import options_for, other_noise, refusal
from diffaccel.plugins.schedulers._making import SchedulerError, made, own_config
from diffaccel.plugins.schedulers._names import (
    NOISE_SCHEDULES,
    SCHEDULERS,
    SPACINGS,
    is_stochastic,
    plugin_of,
    scheduler_named,
)
from diffaccel.plugins.schedulers._signature import signature
from diffaccel.plugins.schedulers.base import Option, Scheduler, SchedulerSpec

__all__ = [
    "NOISE_SCHEDULES",
    "SCHEDULERS",
    "SPACINGS",
    "Option",
    "Scheduler",
    "SchedulerError",
    "SchedulerSpec",
    "is_stochastic",
    "made",
    "options_for",
    "other_noise",
    "own_config",
    "plugin_of",
    "refusal",
    "scheduler_named",
    "signature",
]
