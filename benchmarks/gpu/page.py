"""The page that shows what was measured on a platform: made from its data, byte for byte."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.data import NOTES, GridRecord, read_grid, read_speeds
from benchmarks.markdown import table
from diffaccel.evaluation.records import Environment, SpeedRow
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import ACCELERATORS, combination
from diffaccel.plugins.space import ParametersDict
from diffaccel.stages.records import SpeedRecord
from diffaccel.stages.speed import TOGETHER

SHORTEST = 0.1
"""Seconds below which a job is not worth a line."""
PREPARED = 1.0
"""Seconds beyond a usual call from which a first call has prepared something worth telling."""


def name(platform: str) -> str:
    """The page's file name: the platform's first word that has a digit, as h100."""
    words = platform.split("-")
    return next((word for word in words if any(c.isdigit() for c in word)), platform) + ".md"


def page(folder: Path) -> str | None:
    """Text of the page of one platform's folder; None where nothing has been measured yet."""
    speeds, grid = read_speeds(folder), read_grid(folder)
    if not speeds and grid is None:
        return None
    where = speeds[0].environment if speeds else grid.environment  # type: ignore[union-attr]
    parts = [
        f"# On one {where.device}",
        f"<!-- Made by `python -m benchmarks.gpu report` from benchmarks/gpu/{folder.name}: change "
        "what it is made from, and make it again. -->",
    ]
    if speeds:
        parts += ["## Untrained models of full size: speed alone", speed_part(speeds)]
    if grid is not None:
        parts += ["## The whole grid on the embedded models", grid_part(grid)]
    notes = folder / NOTES
    if notes.exists():
        parts.append(notes.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def _where(environment: Environment, dates: Sequence[str]) -> str:
    days = sorted({date[:10] for date in dates})
    when = " to ".join([days[0], days[-1]][: len(days)])
    versions = ", ".join(f"{key} {value}" for key, value in sorted(environment.versions.items()))
    driver = f", driver {environment.driver}" if environment.driver else ""
    return f"{environment.device}{driver}; {versions}; {when}."


def speed_part(records: Sequence[SpeedRecord]) -> str:
    """What untrained models give."""
    pairs = {len(row.timing.baseline) for record in records for row in record.rows if row.timing}
    counted = " to ".join(str(count) for count in sorted({min(pairs), max(pairs)}))
    told = (
        "`python -m benchmarks.gpu speed` (a part of `make bench-gpu`) on "
        f"{_where(records[0].environment, [record.date for record in records])}\n\n"
        "The networks have their published sizes and random weights, so that there are no scores "
        "and no losses here: only the time of whole pipeline calls, and the work in them (matrix "
        "products, convolutions and attention of all networks; a multiplication and an addition "
        "are two operations). The ceiling is what the fastest of a few large square matrix "
        "products reaches on the same device."
    )
    timed = (
        f"Speedups over the baseline pipeline: medians over {counted} rounds, each with a call "
        "of the "
        f"baseline pipeline beside one of up to {TOGETHER} candidates. *Nothing* is the plain "
        "pipeline "
        "beside itself: as far as it is from 1, the timing is wrong. In brackets are the "
        "parameters "
        "in the order of [accelerators.md](../reference/accelerators.md). *Once* is how much "
        "longer the first "
        "call took than a usual one, where it prepares something (compiles, say); it is not in the "
        "speedups."
    )
    parts = [told, _configurations(records), timed, _speedups(records)]
    if failed := _failed(records):
        parts.append("What could not be timed:\n\n" + "\n".join(failed))
    if doubted := _doubted(records):
        parts.append("What is less sure:\n\n" + "\n".join(doubted))
    return "\n\n".join(parts)


def _title(configuration: Configuration) -> str:
    return f"{configuration.model}, {configuration.scheduler} {configuration.steps}"


def _configurations(records: Sequence[SpeedRecord]) -> str:
    header = ["model, sampler and steps", "image", "batch", "dtype", "call, s", "TFLOP a call"]
    header += ["TFLOP/s", "ceiling, TFLOP/s", "share"]
    return table(
        header,
        (
            [
                _title(record.configuration),
                f"{record.spec.width}x{record.spec.height}",
                str(record.spec.batch_size),
                record.environment.dtype,
                f"{record.seconds:.3f}",
                f"{record.tflop:.4g}",
                f"{record.tflops:.4g}",
                f"{record.ceiling.tflops:.4g} ({record.ceiling.size})",
                f"{record.share:.0%}",
            ]
            for record in records
        ),
    )


def _speedups(records: Sequence[SpeedRecord]) -> str:
    by_record = [{short(row.parameters): row for row in record.rows} for record in records]
    candidates = dict.fromkeys(key for rows in by_record for key in rows)
    return table(
        ["", *(_title(record.configuration) for record in records), "once, s"],
        (
            [key, *(_speedup(rows.get(key)) for rows in by_record), _once(key, by_record)]
            for key in candidates
        ),
    )


def _speedup(row: SpeedRow | None) -> str:
    if row is None:
        return ""
    return "-" if row.speedup is None else f"{row.speedup:.2f}x"


def _once(key: str, by_record: Sequence[dict[str, SpeedRow]]) -> str:
    found = [rows[key] for rows in by_record if key in rows]
    extra = [
        row.first_call - statistics.median(row.timing.accelerated)
        for row in found
        if row.timing is not None and row.first_call is not None
    ]
    most = max(extra, default=0.0)
    return f"{most:.0f}" if most >= PREPARED and key != short({}) else ""


def short(parameters: ParametersDict) -> str:
    """``DeepCache (3, 0) and T-Gate (10, 5, 1, 2)``: the accelerators, each with its parameters in
    the order in which it declares them."""
    if not parameters:
        return "nothing"
    parts = []
    for member in combination(sorted(parameters)).members:
        fields = [field.name for field in dataclasses.fields(ACCELERATORS[member.name].Params)]
        own = parameters[member.name]
        values = ", ".join(str(own[field]) for field in fields if field in own)
        parts.append(f"{member.title} ({values})" if values else member.title)
    return " and ".join(parts)


def _failed(records: Sequence[SpeedRecord]) -> list[str]:
    return [
        f"- {_title(record.configuration)}, {short(row.parameters)}: {row.failure}"
        for record in records
        for row in record.rows
        if row.failure is not None
    ]


def _doubted(records: Sequence[SpeedRecord]) -> list[str]:
    return [
        f"- {_title(record.configuration)}, {short(row.parameters)}: {'; '.join(row.warnings)}"
        for record in records
        for row in record.rows
        if row.warnings
    ]


def grid_part(grid: GridRecord) -> str:
    """What a run of the whole grid gives."""
    cells = sum(row.cells for row in grid.bounds)
    share = "" if grid.share is None else f", in {grid.share:.0%} of which the GPU worked"
    parts = f" in {grid.parts} parts, stopped and gone on" if grid.parts > 1 else ""
    told = (
        "`python -m benchmarks.gpu grid` (a part of `make bench-gpu`) on "
        f"{_where(grid.environment, [grid.date])}\n\n"
        f"From empty results, {cells} cells and {grid.targets} targets took "
        f"**{grid.seconds / 60:.1f} minutes**{parts}{share}. {grid.met} targets can be met, with "
        f"a loss of CLIP score below {grid.loss_limit:.0%} over {grid.prompts} prompts. "
        f"{grid.measured} candidates were evaluated and scored, many jobs at once, and "
        f"{grid.timed} of "
        f"them timed, one job at a time. Of {grid.tasks} tasks made from the bounds {grid.scripts} "
        "have a script." + _proof(grid)
    )
    spent = table(
        ["job", "jobs", "minutes", "s a job"],
        (
            [
                stage.rule,
                str(stage.jobs),
                f"{stage.seconds / 60:.1f}",
                f"{stage.seconds / stage.jobs:.1f}",
            ]
            for stage in grid.stages
            if stage.seconds >= SHORTEST * stage.jobs
        ),
    )
    failures = [f"- {line}" for line in grid.failures]
    return "\n\n".join(
        [
            told,
            "Where the time went (jobs may run beside each other):",
            spent,
            "Bounds, the largest speedup within the loss, over all samplers and step counts:",
            _bounds(grid),
            "Failed jobs: none." if not failures else "Failed jobs:\n\n" + "\n".join(failures),
        ]
    )


def _proof(grid: GridRecord) -> str:
    if not grid.proven:
        return ""
    return (
        f" {grid.proven} of these were run and measured again, in {grid.proving / 60:.1f} minutes "
        f"more; {grid.verified} kept what they promise."
    )


def _bounds(grid: GridRecord) -> str:
    return table(
        ["model", "accelerators", "cells", "median", "from", "to", "median loss", "targets met"],
        (
            [
                row.model,
                row.accelerators,
                str(row.cells)
                if len(row.bounds) == row.cells
                else f"{len(row.bounds)} of {row.cells}",
                *_spread(row.bounds),
                f"{statistics.median(row.losses):+.1%}" if row.losses else "",
                f"{row.met} of {row.targets}",
            ]
            for row in grid.bounds
        ),
        left=2,
    )


def _spread(bounds: Sequence[float]) -> list[str]:
    if not bounds:
        return ["none", "", ""]
    return [f"{value:.2f}x" for value in (statistics.median(bounds), bounds[0], bounds[-1])]
