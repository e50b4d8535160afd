"""Euler's method with noise at each step (Katherine Crowson's k-diffusion)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "Euler a", "EulerAncestralDiscreteScheduler", ("Euler ancestral",), stochastic=True
)
