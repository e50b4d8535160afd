"""DPM-Solver-2 with noise at each step (Katherine Crowson's k-diffusion)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "DPM2 a",
    "KDPM2AncestralDiscreteScheduler",
    ("DPM2 ancestral",),
    noise_schedules=True,
    order=2,
    stochastic=True,
)
