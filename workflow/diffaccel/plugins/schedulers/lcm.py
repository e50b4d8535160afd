"""Latent consistency models' sampler (Luo et al., 2023, arXiv:2310.04378)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("LCM", "LCMScheduler", always={"clip_sample": False}, stochastic=True)
