"""Euler's method (Karras et al., 2022, arXiv:2206.00364, algorithm 2 without its noise)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("Euler", "EulerDiscreteScheduler", noise_schedules=True)
