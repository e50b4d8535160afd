"""Which images of a candidate its metrics call the worst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from diffaccel.experiment.limits import Limit
from diffaccel.plugins.metrics import METRICS

USUAL = "psnr"
"""By which images are sorted where no limit names another metric."""
Scores = Mapping[str, Sequence[float]]
"""Of images, by metric."""


@dataclass(frozen=True)
class Worst:
    """An image that a metric calls bad.

    Args:
        prompt: its number.
        value: of the metric.
        baseline: of the metric, for the baseline's image; None where the metric compares the two.
    """

    prompt: int
    value: float
    baseline: float | None


def worst(baseline: Scores, own: Scores, count: int) -> dict[str, list[Worst]]:
    """The worst images by each metric, the worst first; of equal ones, the first prompt's.

    A metric that compares with the baseline's image is taken as it is. Of one that does not, the
    change against the baseline's image counts: an image that was bad before is no fault of an
    accelerator.

    Args:
        baseline: of the same prompts and seeds, in the same order; there may be more.
        own: of the candidate. Metrics that the baseline has no scores of are left out unless they
            compare with its images, and so are those that are not known any more.
    """
    found = {}
    for name, values in own.items():
        if name not in METRICS:
            continue
        compares = METRICS[name].needs_reference
        if not compares and name not in baseline:
            continue
        rows = [
            Worst(number, value, None if compares else baseline[name][number])
            for number, value in enumerate(values)
        ]
        sign = 1.0 if METRICS[name].better == "higher" else -1.0
        found[name] = sorted(rows, key=lambda row: sign * (row.value - (row.baseline or 0.0)))
    return {name: rows[:count] for name, rows in found.items()}


def in_order(names: Iterable[str], limits: Sequence[Limit]) -> list[str]:
    """Metrics as a reader wants to sort by them: those that limits name first, then PSNR."""
    asked = [limit.metric for limit in limits]
    first = [name for name in (*asked, USUAL) if name in (names := [*names])]
    return list(dict.fromkeys([*first, *names]))
