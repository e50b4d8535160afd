"""UniPC, a unified predictor and corrector (Zhao et al., 2023, arXiv:2302.04867)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "UniPCMultistepScheduler",
    "UniPCMultistepScheduler",
    ("UniPC multistep",),
    stem="UniPC",
    noise_schedules=True,
)
