"""How many scripts passed, by category of task."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffaccel.benchmark.judge.records import Judged, Judgement
from diffaccel.experiment.tasks import Category
from diffaccel.store.jsonio import read_record, write_output

STAGES = ("static", "absolute", "relative")
PASSED = {"static": 0, "absolute": 1, "relative": 2, "undecided": 2, "passed": 3}
"""Outcome -> how many stages were passed."""


def pass_rates(judgements: Sequence[Judgement], absent: int = 0) -> pd.DataFrame:
    """A row a category, and one of all.

    ``static``, ``absolute`` and ``relative`` are shares of the judged scripts that passed this
    stage and those before it. ``undecided`` is how many failed only in that the timing was too
    noisy to tell. ``achievement`` is the mean, over those that were asked for a speedup, of the
    reached over the asked one, 1 at most, and 0 where the script failed before.

    Args:
        absent: how many tasks have no script.
    """
    rows = [
        {"category": category.name.lower()} | _rates(those)
        for category in Category
        if (those := [each for each in judgements if each.category == category])
    ]
    rows.append({"category": "all"} | _rates(judgements) | {"absent": absent})
    return pd.DataFrame(rows).astype({"absent": "Int64"})


def _rates(judgements: Sequence[Judgement]) -> dict[str, Any]:
    judged = [each for each in judgements if each.outcome in PASSED]
    row: dict[str, Any] = {"scripts": len(judgements), "judged": len(judged)}
    for number, stage in enumerate(STAGES):
        row[stage] = _mean([float(PASSED[each.outcome] > number) for each in judged])
    row["undecided"] = sum(each.outcome == "undecided" for each in judged)
    asked = [each for each in judged if each.required_speedup is not None]
    row["achievement"] = _mean([_achieved(each) for each in asked])
    return row


def _achieved(said: Judgement) -> float:
    if said.outcome in ("static", "absolute") or said.speedup is None:
        return 0.0
    return min(1.0, said.speedup / (said.required_speedup or 1.0))


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def read_judgements(records: Iterable[Path | str]) -> list[Judgement]:
    """What was said of all scripts."""
    return [each for path in records for each in read_record(Judged, Path(path)).judgements]


def write_pass_rates(records: Iterable[Path | str], absent: int, out: Path | str) -> None:
    """`pass_rates.csv`: the table of `pass_rates`, numbers to four decimals."""
    table = pass_rates(read_judgements(records), absent)
    write_output(Path(out), table.to_csv(index=False, float_format="%.4f"))


def as_text(folder: Path) -> str:
    """The pass rates in a folder of the judge, and what is wrong with each script that failed."""
    table = pd.read_csv(folder / "pass_rates.csv")
    judgements = read_judgements(sorted(folder.glob("*.json")))
    failed = [f"{each.id}: {each.outcome}: {each.reason}" for each in judgements if each.reason]
    return "\n".join([table.to_string(index=False, na_rep="-"), *failed])
