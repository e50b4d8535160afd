"""The table of metrics in docs/reference/metrics.md, made from the plugins.

``python -m tests.docs.metrics`` writes it; part of ``make pages``. A test keeps it in step.
"""

from __future__ import annotations

from benchmarks.markdown import table
from diffaccel.plugins.metrics import METRICS, SCORE, Metric
from tests.docs.made import Parts, write
from tests.docs.pages import DOCS

PAGE = DOCS / "reference" / "metrics.md"
HEAD = ("name", "compares with", "better", "range", "weights", "usual", "paper")


def weights(metric: Metric) -> str:
    if metric.name == SCORE:
        return "the model's `scorer`"
    if not metric.needs_source:
        return "none"
    return "your own folder" if metric.source is None else f"`{metric.source}`"


def row(metric: Metric) -> tuple[str, ...]:
    return (
        f"`{metric.name}`",
        "the baseline's image"
        if metric.needs_reference
        else NOTHING.get(metric.name, "the prompt"),
        metric.better,
        metric.scale,
        weights(metric),
        "yes" if metric.usual else "",
        metric.paper or "",
    )


NOTHING = {"clip_iqa": "nothing"}
"""What looks at the image alone."""


def table_of_all() -> str:
    """In Markdown."""
    return table(HEAD, map(row, METRICS.values()), left=len(HEAD)) + "\n"


PARTS: Parts = {"metrics": table_of_all}

if __name__ == "__main__":
    write(PAGE, PARTS)
