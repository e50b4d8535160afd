"""Stochastic Adams solver (Xue et al., 2023, arXiv:2309.05019)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("SA-Solver", "SASolverScheduler", noise_schedules=True, stochastic=True)
