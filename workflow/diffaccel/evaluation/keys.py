"""What determines a measurement: nothing that was measured is used where any of it is otherwise.

A baseline names what all measurements beside it share (`bench.fingerprint_of`). Here is what
belongs to one row alone: the prompts that it was made with, the source of its accelerators, what it
was scored by besides the usual metrics, and how often it was timed at least. How much is measured
at most, and how sure an answer must be, is in no key: raising it measures nothing again, unless a
prompt comes in that is too long for the scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from diffaccel.evaluation.records import Baseline, Evaluation, TimingRow
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.prompts import as_json
from diffaccel.plugins.accelerators import sources
from diffaccel.store.journal import ADDED, Journal
from diffaccel.store.jsonio import digest

Own = Mapping[str, str]
"""What determines a row besides what its baseline shares, by name."""


def evaluated(folder: Path, baseline: Baseline, cell: str) -> Journal[Evaluation]:
    """The evaluations of a cell, by its slug."""
    path = folder / "evaluations" / f"{cell}.jsonl"
    return Journal(
        path, baseline.digest, Evaluation, baseline.provenance(), of_evaluation(baseline)
    )


def timed(folder: Path, baseline: Baseline) -> Journal[TimingRow]:
    """The timings of a model, whatever its scheduler and steps, and however images are scored: the
    times of its steps are the same."""
    provenance = {
        name: value for name, value in baseline.provenance().items() if name != "configuration"
    }
    shared = {
        name: value
        for name, value in baseline.fingerprint.items()
        if name not in ("configuration", "prompts", "scoring")
    }
    path = folder / "timed" / f"{baseline.configuration.model}.jsonl"
    own = of_timing(baseline.options)
    return Journal(path, digest(shared), TimingRow, {**provenance, "fingerprint": shared}, own)


def of_evaluation(baseline: Baseline) -> Callable[[Evaluation], Own]:
    """Prompt i has a seed of its own, so that what was evaluated with the first n prompts is the
    same whatever follows them. A row of more prompts than there are is of none of them."""

    def own(row: Evaluation) -> Own:
        prompts = baseline.prompts[: row.prompts]
        found = digest(as_json(prompts)) if len(prompts) == row.prompts else "more than there are"
        return {"prompts": found, **sources(row.parameters), **of_metrics(baseline, row)}

    return own


def of_metrics(baseline: Baseline, row: Evaluation) -> Own:
    """Of each metric besides the usual ones what determines its values. What was scored by more
    than is asked for is as good; what was not scored at all needs none."""
    return {f"{ADDED}{name}": own for name, own in (baseline.metrics or {}).items() if row.scores}


def of_timing(options: MeasureOptions) -> Callable[[TimingRow], Own]:
    """The least number of pairs, and the accelerators."""
    return lambda row: {"pairs": str(options.pairs), **sources(row.row.parameters)}
