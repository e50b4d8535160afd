"""Denoising diffusion implicit models (Song et al., 2021, arXiv:2010.02502)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("DDIM", "DDIMScheduler", always={"clip_sample": False})
