"""Linear multistep of order four (Katherine Crowson's k-diffusion)."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("LMS", "LMSDiscreteScheduler", noise_schedules=True)
