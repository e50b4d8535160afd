"""Denoising diffusion probabilistic models (Ho et al., 2020, arXiv:2006.11239)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("DDPM", "DDPMScheduler", always={"clip_sample": False}, stochastic=True)
