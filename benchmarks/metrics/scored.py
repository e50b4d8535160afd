"""Candidates whose images were scored by several metrics, `TRUTH` among them: of a table, or of a
run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.tables import Table
from diffaccel.evaluation import keys
from diffaccel.evaluation.records import Baseline
from diffaccel.plugins.metrics import METRICS, SCORE
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import digest, read_record

TRUTH = "scene_right"
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Scores = Mapping[str, Sequence[float]]
"""Of images, by metric."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A candidate that works, beside its baseline.

    Args:
        cell: its accelerators' names.
        baseline, own: scores of the same prompts and seeds, in the same order.
        prompts: what tells the prompts of the images apart.
    """

    cell: str
    parameters: ParametersDict
    baseline: Scores
    own: Scores
    prompts: Sequence[str]

    @cached_property
    def right(self) -> Bools:
        """Of each image, whether the baseline's is right: only such a scene can break."""
        return np.asarray(self.baseline[TRUTH]) == 1

    @cached_property
    def broken(self) -> Bools:
        """Of each of those, whether the scene is wrong now."""
        return np.asarray(self.own[TRUTH])[self.right] == 0

    @property
    def share(self) -> float:
        """Of the scenes that could break, those that did."""
        return float(self.broken.mean())

    def worse(self, metric: str) -> Floats:
        """How bad each image that could break is, (n,): the higher the worse. A metric that does
        not compare with the baseline's image is compared with its value of that."""
        sign = 1 if METRICS[metric].better == "lower" else -1
        values: Floats = np.asarray(self.own[metric], dtype=np.float64)
        if not METRICS[metric].needs_reference:
            values = values - np.asarray(self.baseline[metric], dtype=np.float64)
        return sign * values[self.right]

    def mean(self, metric: str) -> float:
        """What a limit is compared with: the mean over all images, or the relative loss of it."""
        mean = float(np.mean(self.own[metric]))
        if METRICS[metric].needs_reference:
            return mean
        before = float(np.mean(self.baseline[metric]))
        loss = (before - mean) / abs(before)
        return loss if METRICS[metric].better == "higher" else -loss


def of_table(table: Table) -> Iterator[Candidate]:
    """Those of a table that has the values of each image."""
    baseline = table.baseline
    for cell, rows in table.rows.items():
        for row in rows:
            if row.failure is None and TRUTH in row.images:
                yield Candidate(
                    "+".join(cell.accelerators),
                    row.parameters,
                    baseline.scores,
                    row.values,
                    baseline.subjects,
                )


def of_results(folder: Path) -> Iterator[Candidate]:
    """Those of ``results/<platform>``, of a run with ``metrics: [scene_right, ...]``."""
    for path in sorted((folder / "baseline").glob("*.json")):
        baseline = read_record(Baseline, path)
        for journal in sorted((folder / "journal" / "evaluations").glob(f"{path.stem}_*.jsonl")):
            rows = keys.evaluated(folder / "journal", baseline, journal.stem).rows()
            # The last row of a candidate has the prompts of those before it.
            for row in {digest(row.parameters): row for row in rows}.values():
                if row.failure is None and TRUTH in row.scores and TRUTH in baseline.scores:
                    count = row.prompts
                    before = {name: values[:count] for name, values in baseline.scores.items()}
                    yield Candidate(
                        "+".join(sorted(row.parameters)),
                        row.parameters,
                        before,
                        row.scores,
                        baseline.subjects[:count],
                    )


def metrics_of(candidates: Sequence[Candidate]) -> list[str]:
    """The metrics that all of them have but `TRUTH`, the score first."""
    names = set.intersection(*(set(each.own) for each in candidates)) - {TRUTH}
    return sorted(names, key=lambda name: (name != SCORE, name))
