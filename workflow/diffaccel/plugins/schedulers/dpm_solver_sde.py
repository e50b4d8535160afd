"""The stochastic variant of DPM-Solver++ multistep (Lu et al., 2022, arXiv:2211.01095)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "DPM++ 2M SDE",
    "DPMSolverMultistepScheduler",
    options={"algorithm_type": "sde-dpmsolver++"},
    noise_schedules=True,
    stochastic=True,
)
