"""Diffusion exponential integrator sampler (Zhang and Chen, 2023, arXiv:2204.13902)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("DEIS", "DEISMultistepScheduler", noise_schedules=True)
