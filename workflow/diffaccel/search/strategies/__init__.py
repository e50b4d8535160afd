"""The search strategies, one file each; see `base` for what one declares."""

from __future__ import annotations

from diffaccel.registry import Registry
from diffaccel.search.strategies.base import Observation, Problem, Strategy

STRATEGIES: Registry[Strategy] = Registry("diffaccel.search.strategies", "strategy")

__all__ = ["STRATEGIES", "Observation", "Problem", "Strategy"]
