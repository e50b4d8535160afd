"""The metrics, one file each; see `diffaccel.plugins.metrics.base` for what one declares."""

from __future__ import annotations

from collections.abc import Iterable

from diffaccel.plugins.metric_choice import SCORE, MetricChoice
from diffaccel.plugins.metrics._weights import fetch_metrics
from diffaccel.plugins.metrics.base import Compute, Images, Metric
from diffaccel.registry import Registry
from diffaccel.store.jsonio import digest
from diffaccel.store.source import hash_of

METRICS: Registry[Metric] = Registry("diffaccel.plugins.metrics", "metric")


def prepared(chosen: Iterable[MetricChoice], scorer: str, device: str) -> dict[str, Compute]:
    """What computes the usual metrics and the chosen ones, by name.

    Args:
        scorer: folder or hub id of the CLIP model that the usual ones take.
        device: torch's name of it.

    Raises:
        ModelError: weights are missing, or of something else.
    """
    usual = {name: each for name, each in METRICS.items() if each.usual}
    found = {name: each.prepare(scorer, device) for name, each in usual.items()}
    more = {each.name: each.source or "" for each in chosen if each.name not in usual}
    return found | {name: METRICS[name].prepare(source, device) for name, source in more.items()}


def identities(chosen: Iterable[MetricChoice]) -> dict[str, str]:
    """Hash of all that determines the values of each chosen metric, its code and its weights, by
    name."""
    from diffaccel.plugins.models import content_hash

    def own(each: MetricChoice) -> str:
        weights = each.source and content_hash(each.source)
        return digest([hash_of(type(METRICS[each.name]).__module__), weights])

    return {each.name: own(each) for each in chosen}


__all__ = [
    "METRICS",
    "SCORE",
    "Images",
    "Metric",
    "MetricChoice",
    "fetch_metrics",
    "identities",
    "prepared",
]
