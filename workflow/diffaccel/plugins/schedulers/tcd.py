"""Trajectory consistency distillation's sampler (Zheng et al., 2024, arXiv:2402.19159); without
noise of its own, since pipelines call it with an eta of 0."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("TCD", "TCDScheduler", always={"clip_sample": False})
