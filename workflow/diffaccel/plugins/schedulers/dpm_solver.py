"""DPM-Solver++, multistep of order two (Lu et al., 2022, arXiv:2211.01095)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "DPM-Solver++",
    "DPMSolverMultistepScheduler",
    ("DPM++", "DPM-Solver multistep"),
    stem="DPM++ 2M",
    noise_schedules=True,
)
