"""Pseudo numerical methods (Liu et al., 2022, arXiv:2202.09778), as Stable Diffusion uses them:
linear multistep alone (PLMS), whose second step is made twice."""

from __future__ import annotations

from diffaccel.plugins.schedulers.base import Scheduler

PLUGIN = Scheduler("PNDM", "PNDMScheduler", ("PLMS",), always={"skip_prk_steps": True}, extra=1)
