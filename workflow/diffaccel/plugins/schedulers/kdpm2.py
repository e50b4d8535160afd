"""DPM-Solver-2, two calls a step (Karras et al., 2022, arXiv:2206.00364; k-diffusion)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("DPM2", "KDPM2DiscreteScheduler", noise_schedules=True, order=2)
