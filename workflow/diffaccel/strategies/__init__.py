"""The search strategies, one file each; see `diffaccel.strategies.base` for what one declares."""

from __future__ import annotations

from diffaccel.registry import Registry
from diffaccel.strategies.base import Observation, Problem, Strategy

STRATEGIES: Registry[Strategy] = Registry("diffaccel.strategies", "strategy")

__all__ = ["STRATEGIES", "Observation", "Problem", "Strategy"]
