"""DPM-Solver++, single-step of order two (Lu et al., 2022, arXiv:2211.01095)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "DPM++ 2S",
    "DPMSolverSinglestepScheduler",
    ("DPM-Solver singlestep",),
    noise_schedules=True,
    spacings=False,
)
