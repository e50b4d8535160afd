"""What people said of pairs of images: rows of a journal that is only appended to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.prompts import as_json
from diffaccel.plugins.accelerators import sources
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import UNSAID, digest

FOLDER = "comparisons"
"""Of the journals."""
Verdict = Literal["better", "same", "worse", "undone"]
"""What was said of the accelerated image; ``undone``: what was said before no longer counts."""
Which = Literal["baseline", "accelerated"]


@dataclass(frozen=True)
class Comparison:
    """What somebody said of a pair of images of one prompt and seed.

    Args:
        parameters: of the accelerated image.
        prompt: its number among the baseline's prompts.
        baseline_image, accelerated_image: hashes of their pixels, as they were shown.
        first: which of the two was A, the one on the left.
        judge: who said it; None where nobody said who.
        seed: of the order and of the sides.
    """

    parameters: ParametersDict
    prompt: int
    baseline_image: str
    accelerated_image: str
    first: Which
    verdict: Verdict
    seed: int
    date: str
    judge: Annotated[str | None, UNSAID] = None

    @property
    def answer(self) -> str:
        """Hash of the parameters, by which answers are told apart."""
        return digest(self.parameters)


def journal_of(journals: Path, baseline: Baseline) -> Journal[Comparison]:
    """The comparisons with the images of a baseline.

    A row counts as long as its two images would be the same now: it belongs to its baseline, its
    prompt and the source of its accelerators.

    Args:
        journals: folder of a platform's journals.
    """

    def own(row: Comparison) -> Mapping[str, str]:
        prompts = as_json(baseline.prompts[row.prompt : row.prompt + 1])
        return {"prompt": digest(prompts), **sources(row.parameters)}

    path = journals / FOLDER / f"{baseline.configuration.slug}.jsonl"
    return Journal(path, baseline.digest, Comparison, baseline.provenance(), own)
