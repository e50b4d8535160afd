"""What is kept of a run on a GPU: as little as the pages need, as text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from benchmarks.gpu.watch import used
from diffaccel.evaluation.records import Baseline, Environment
from diffaccel.report import table as report
from diffaccel.stages import collect
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.jsonio import (
    RecordError,
    digest,
    parse,
    read_record,
    to_json,
    today,
    write_record,
    write_text,
)

SPEED, GRID, NOTES = "speed.jsonl", "grid.json", "notes.md"
USE, PROOF_USE = "use.csv", "use-proof.csv"
"""Beside the results of a grid: when it ran, up to the scripts and for proving them, and how far
the GPU was used."""


@dataclass(frozen=True)
class Stage:
    """All jobs of a rule."""

    rule: str
    jobs: int
    seconds: float


@dataclass(frozen=True)
class Bounds:
    """One model and accelerator, over all its schedulers and step counts.

    Args:
        cells: how many there are; of ``bounds`` there are fewer where some have none.
        bounds: the largest speedups within the loss limit, ascending.
        losses: theirs, in the same order.
        targets, met: how many speedups were asked for, and how many can be had.
    """

    model: str
    accelerators: str
    cells: int
    bounds: list[float]
    losses: list[float]
    targets: int
    met: int


@dataclass(frozen=True)
class GridRecord:
    """A run of a whole grid of cells.

    Args:
        seconds: from start to the last script, all parts together where it was stopped and went on.
        parts: in how many it ran.
        share: of that time in which the GPU worked; None where nothing could tell.
        measured: candidates evaluated and scored over all cells.
        timed: how many of them were timed, too.
        searching: seconds of all jobs together that evaluation and timing took.
        tasks, scripts: made from the bounds; of those with a script.
        proven, verified: scripts that were run and measured again; of these, those that kept what
            they promise.
        proving: seconds that proving took, as far as it went.
        failures: last lines of what failed, each with its job.
    """

    environment: Environment
    loss_limit: float
    prompts: int
    seconds: float
    parts: int
    share: float | None
    measured: int
    timed: int
    searching: float
    stages: list[Stage]
    bounds: list[Bounds]
    tasks: int
    scripts: int
    proven: int
    verified: int
    proving: float
    failures: list[str]
    date: str

    @property
    def targets(self) -> int:
        return sum(row.targets for row in self.bounds)

    @property
    def met(self) -> int:
        return sum(row.met for row in self.bounds)


def read_speeds(folder: Path) -> list[SpeedRecord]:
    """The timed configurations, in the order in which they were first collected; none without a
    file."""
    path = folder / SPEED
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        parse(SpeedRecord, json.loads(line), f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
    ]


def add_speeds(folder: Path, records: Iterable[SpeedRecord]) -> list[SpeedRecord]:
    """Puts records beside those that are kept. Rows of the same identity come together, the newer
    in place of the older; where anything that determines times has changed, the older ones go."""
    kept = {record.configuration: record for record in read_speeds(folder)}
    for record in records:
        kept[record.configuration] = _together(kept.get(record.configuration), record)
    lines = [json.dumps(to_json(record), sort_keys=True) + "\n" for record in kept.values()]
    write_text(folder / SPEED, "".join(lines))
    return list(kept.values())


def _together(old: SpeedRecord | None, new: SpeedRecord) -> SpeedRecord:
    if old is None or old.digest != new.digest:
        return new
    rows = {digest(row.parameters): row for row in (*old.rows, *new.rows)}
    return replace(new, rows=list(rows.values()))


def read_grid(folder: Path) -> GridRecord | None:
    """The grid's record, if there is one."""
    path = folder / GRID
    return read_record(GridRecord, path) if path.exists() else None


def collect_grid(results: Path, metadata: Path, out: Path) -> GridRecord:
    """The record of a grid from its results and from Snakemake's account of its jobs.

    Raises:
        RecordError: there are no results.
    """
    found, table = collect.overview(results)
    frontiers = [cell for each in found for cell in each.cells]
    baselines = sorted(results.glob("baseline/*.json"))
    if table.empty or not frontiers or not baselines:
        raise RecordError(f"{results}: no baselines or searches; run the grid first")
    baseline, use = read_record(Baseline, baselines[0]), used(results / USE)
    made = table[table["origin"] == "bound"]
    proven = made["verified"].dropna()
    record = GridRecord(
        environment=baseline.environment,
        loss_limit=frontiers[0].loss_limit,
        prompts=len(baseline.prompts),
        seconds=round(use.seconds, 1),
        parts=use.parts,
        share=None if use.share is None else round(use.share, 4),
        measured=sum(known.measured for known in frontiers),
        timed=sum(known.timed for known in frontiers),
        searching=round(sum(each.seconds for each in found), 1),
        stages=stages(metadata, results),
        bounds=_bounds(table),
        tasks=len(made),
        scripts=int((made["status"] == "met").sum()),
        proven=len(proven),
        verified=int((proven == "met").sum()),
        proving=round(used(results / PROOF_USE).seconds, 1),
        failures=[
            f"{path.parent.name} {path.stem}: {line}" for path, line in report.failures(results)
        ],
        date=today(),
    )
    write_record(out / GRID, record)
    return record


def _bounds(table: pd.DataFrame) -> list[Bounds]:
    targets = table[table["origin"] == "target"]
    found = []
    for (model, accelerators), rows in targets.groupby(["model", "accelerators"], sort=False):
        cells = rows.drop_duplicates(["scheduler", "steps"])
        best = cells.dropna(subset=["bound"]).sort_values("bound")
        found.append(
            Bounds(
                model=str(model),
                accelerators=str(accelerators),
                cells=len(cells),
                bounds=[round(float(value), 3) for value in best["bound"]],
                losses=[round(float(value), 4) for value in best["bound_loss"]],
                targets=len(rows),
                met=int((rows["status"] == "met").sum()),
            )
        )
    return found


def stages(metadata: Path, results: Path) -> list[Stage]:
    """Jobs and their seconds by rule, the longest first, from ``.snakemake/metadata``.

    A job that has several outputs stands there once an output; its log tells that it is one.
    """
    spent: dict[str, dict[str, float]] = {}
    for path in sorted(metadata.rglob("*")):
        if not path.is_file():
            continue
        job = json.loads(path.read_text(encoding="utf-8"))
        logs = job.get("log") or []
        if logs and Path(logs[0]).is_relative_to(results) and job.get("endtime"):
            spent.setdefault(job["rule"], {})[logs[0]] = job["endtime"] - job["starttime"]
    found = [Stage(rule, len(jobs), round(sum(jobs.values()), 1)) for rule, jobs in spent.items()]
    return sorted(found, key=lambda stage: -stage.seconds)
