"""DPM-Solver++ of order two with noise along a Brownian path (Katherine Crowson's k-diffusion)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler(
    "DPM++ SDE",
    "DPMSolverSDEScheduler",
    # Without a seed it takes one from the global generator, and no call could be repeated.
    always={"noise_sampler_seed": 0},
    noise_schedules=True,
    order=2,
    stochastic=True,
    requires="torchsde",
)
