"""What determines a measurement: nothing that was measured is used where any of it is otherwise.

A baseline names what all measurements beside it share (`bench.identity_of`). Here is what belongs
to one row alone: the prompts that it was made with, the source of its accelerators, and how often
it was timed at least. How much is measured at most, and how sure an answer must be, is in no key:
raising it measures nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from diffaccel.evaluation.records import Baseline, Clocking, Drawing
from diffaccel.experiment.options import MeasureOptions
from diffaccel.plugins.accelerators import sources
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest

Own = Mapping[str, str]
"""What determines a row besides what its baseline shares, by name."""


def drawn(folder: Path, baseline: Baseline, cell: str) -> Journal[Drawing]:
    """The evaluations of a cell, by its slug."""
    path = folder / "drawn" / f"{cell}.jsonl"
    return Journal(path, baseline.digest, Drawing, baseline.about(), of_drawing(baseline))


def timed(folder: Path, baseline: Baseline) -> Journal[Clocking]:
    """The timings of a model, whatever its scheduler and steps: the times of its steps are the
    same."""
    about = {name: value for name, value in baseline.about().items() if name != "setup"}
    shared = {
        name: value for name, value in baseline.identity.items() if name not in ("setup", "prompts")
    }
    path = folder / "timed" / f"{baseline.setup.model}.jsonl"
    own = of_timing(baseline.options)
    return Journal(path, digest(shared), Clocking, {**about, "identity": shared}, own)


def of_drawing(baseline: Baseline) -> Callable[[Drawing], Own]:
    """Prompt i has a seed of its own, so that what was drawn with the first n prompts is the same
    whatever follows them. A row of more prompts than there are is of none of them."""

    def own(row: Drawing) -> Own:
        prompts = baseline.prompts[: row.prompts]
        found = digest(prompts) if len(prompts) == row.prompts else "more than there are"
        return {"prompts": found, **sources(row.setting)}

    return own


def of_timing(options: MeasureOptions) -> Callable[[Clocking], Own]:
    """The least number of pairs, and the accelerators."""
    return lambda row: {"pairs": str(options.pairs), **sources(row.row.setting)}
