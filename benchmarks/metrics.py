"""Which metric notices that a scene broke?

Takes the results of a run on embedded models with ``metrics: [scene_right, ...]``. Of each image of
each candidate whose baseline image was right, it is known whether it is still right. The table has,
for each other metric, how often it finds a broken image worse than a right one (the area under the
ROC curve; 0.5 is chance). Metrics of the prompt are compared with their value of the baseline's
image.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from diffaccel.evaluation import keys
from diffaccel.evaluation.records import Baseline
from diffaccel.plugins.metrics import METRICS
from diffaccel.store.jsonio import digest, read_record

TRUTH = "scene_right"
Images = dict[str, list[float]]
"""Values of images by metric, the higher the worse, in the order of `TRUTH`."""


def images(folder: Path) -> tuple[Images, list[bool]]:
    """How bad each image is by each metric, and whether it broke."""
    found: Images = defaultdict(list)
    broken: list[bool] = []
    for path in sorted((folder / "baseline").glob("*.json")):
        baseline = read_record(Baseline, path)
        for journal in (folder / "journal" / "evaluations").glob(f"{path.stem}_*.jsonl"):
            rows = keys.evaluated(folder / "journal", baseline, journal.stem).rows()
            # The last row of a candidate has the prompts of those before it.
            for row in {digest(row.parameters): row for row in rows}.values():
                if TRUTH in row.scores:
                    for name, values in _worse(baseline, row.scores):
                        found[name] += values
                    broken += [now == 0 for now, _ in _kept(baseline, row.scores, TRUTH)]
    return found, broken


def _worse(baseline: Baseline, scores: dict[str, list[float]]) -> Iterator[tuple[str, list[float]]]:
    for name in scores:
        if name != TRUTH:
            sign = 1 if METRICS[name].better == "lower" else -1
            pairs = _kept(baseline, scores, name)
            yield name, [sign * (now - before) for now, before in pairs]


def _kept(
    baseline: Baseline, scores: dict[str, list[float]], name: str
) -> list[tuple[float, float]]:
    """Of the prompts whose baseline image is right: the value, and that of the baseline's."""
    right = baseline.scores[TRUTH][: len(scores[TRUTH])]
    before = baseline.scores.get(name, [0.0] * len(right))
    rows = zip(scores[name], before, right, strict=False)
    return [(now, then) for now, then, was_right in rows if was_right == 1]


def area(values: Sequence[float], broken: Sequence[bool]) -> float:
    """How often a broken image has the higher value; a tie is a half."""
    found, those = np.asarray(values), np.asarray(broken)
    difference = found[those][:, None] - found[~those][None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="results/<platform>")
    folder = parser.parse_args().folder
    found, broken = images(folder)
    table = Table("metric", "area", title=f"{len(broken)} images, {sum(broken)} broken")
    areas = {name: area(values, broken) for name, values in found.items()}
    for name, value in sorted(areas.items(), key=lambda each: -each[1]):
        table.add_row(name, f"{value:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
