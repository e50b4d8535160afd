"""The table of metrics in docs/reference/metrics.md, made from the plugins.

``python -m tests.docs.metrics`` writes it; part of ``make pages``. A test keeps it in step.
"""

from __future__ import annotations

import re
from pathlib import Path

from diffaccel.plugins.metrics import METRICS, SCORE, Metric
from tests.docs.pages import DOCS

PAGE = DOCS / "reference" / "metrics.md"
PLACE = re.compile(r"(<!-- metrics -->\n).*?(<!-- /metrics -->)", re.DOTALL)
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


def table() -> str:
    """In Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row, METRICS.values())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def written(page: str) -> str:
    """The page with the table as it is now."""
    return PLACE.sub(lambda place: f"{place[1]}{table()}{place[2]}", page)


def main() -> None:
    path = Path(PAGE)
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
