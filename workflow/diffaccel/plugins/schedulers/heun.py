"""Heun's method, two calls a step (Karras et al., 2022, arXiv:2206.00364, algorithm 1)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "Heun", "HeunDiscreteScheduler", always={"clip_sample": False}, noise_schedules=True, order=2
)
