"""The names of metrics, as configurations and records hold them.

They lie apart from the metrics, which load numpy: both are read without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from diffaccel.registry import plugin_files
from diffaccel.store.jsonio import UNSAID

SCORE = "clip_score"
"""The metric that the loss is defined on."""


def metric_names() -> list[str]:
    """Of all metrics."""
    return plugin_files("diffaccel.plugins.metrics")


@dataclass(frozen=True)
class MetricChoice:
    """A metric that is computed beside the usual ones.

    Args:
        source: folder or hub id of its weights; None: it has none.
    """

    name: str
    source: Annotated[str | None, UNSAID] = None
