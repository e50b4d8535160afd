"""The metrics, one file each; see `diffaccel.plugins.metrics.base` for what one declares."""

from __future__ import annotations

from diffaccel.plugins.metrics.base import Images, Metric
from diffaccel.registry import Registry

METRICS: Registry[Metric] = Registry("diffaccel.plugins.metrics", "metric")
SCORE = "clip_score"
"""The metric that the loss is defined on."""

__all__ = ["METRICS", "SCORE", "Images", "Metric"]
