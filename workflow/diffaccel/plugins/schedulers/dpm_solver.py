"""DPM-Solver++, multistep of order two (Lu et al., 2022, arXiv:2211.01095)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "DPM-Solver++", "DPMSolverMultistepScheduler", ("DPM++", "DPM++ 2M", "DPM-Solver multistep")
)
