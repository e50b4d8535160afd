"""A metric that a configuration names, as records hold it.

It lies apart from the metrics, which load numpy: records are read without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from diffaccel.store.jsonio import UNSAID


@dataclass(frozen=True)
class MetricChoice:
    """A metric that is computed beside the usual ones.

    Args:
        source: folder or hub id of its weights; None: it has none.
    """

    name: str
    source: Annotated[str | None, UNSAID] = None
