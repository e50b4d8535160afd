"""What people said of the answers, as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from diffaccel.report.blind.answers import Compared
from diffaccel.report.blind.preference import NEAR, preferences

MEANING = (
    "Preferred: share of pairs in which the accelerated image is better; a pair without a "
    f"preference counts half. No preference found: the interval is within {0.5 - NEAR:.0%} to "
    f"{0.5 + NEAR:.0%}."
)


def lines(answers: Sequence[Compared], journals: Path) -> Iterator[str]:
    """Each answer with counts, share and interval, then what these mean.

    Args:
        journals: folder of the platform's journals.
    """
    baselines = {each.baseline.digest: each.baseline for each in answers}
    found = {name: preferences(journals, each) for name, each in baselines.items()}
    for each in answers:
        said = found[each.baseline.digest].get(each.digest)
        count = len(each.asked)
        images = f"{count} pair{'s' * (count != 1)} of images kept"
        yield each.title
        yield f"  {said}" if said else f"  not compared yet; {images}"
    yield MEANING
