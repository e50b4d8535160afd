"""Tables of measured candidates: one Parquet file a configuration, read and written as `Table`.

Columns: ``cell`` (``deepcache+tgate``); one a parameter (``tgate.gate_step``), null where the cell
has no such; ``scores``, the CLIP score of each prompt; ``ssim`` and ``psnr``, means over the
prompts against the baseline's images; ``speedup``; ``measured``, the one that was timed, if it was;
``failure``, null where the candidate works. Where the experiment named metrics, ``images`` has the
values of each image by all metrics but the score. The file's metadata, under ``diffaccel``, is a
JSON object of `Provenance` and of the baseline.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.search.record import Plan
from benchmarks.search.spaces import spanned
from diffaccel.evaluation.records import Baseline, Evaluation, SpeedRow
from diffaccel.evaluation.scores import loss_of
from diffaccel.experiment.grid import Cell
from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.space import ParametersDict, Space, Value, flatten, nest
from diffaccel.search.speeds import SpeedModel
from diffaccel.store.jsonio import digest, parse, to_json, today

KEY = b"diffaccel"
FOLDS = 5
"""Parts of the timed candidates, each of which is predicted from the others."""
NORMAL = 0.6745
"""Median of the absolute value of a standard normal number."""
MEDIAN = math.pi / 2
"""Variance of a median of many normal numbers, over that of their mean."""


@dataclass(frozen=True)
class Provenance:
    """What is known of a table as a whole.

    Args:
        command: that recorded it.
        plain: seconds of a plain call, the median of all that were timed.
        noise: standard deviation of the logarithm of one timed pair's ratio.
        error: that of predicted over measured speedups of candidates that the prediction was not
            told of; most of it is the timing's.
        timing_error: the part of it that the noise of the pairs explains.
        nugget: how far the logarithm of a candidate's true speedup is from what the model can say,
            by the evidence of the timings.
    """

    command: str
    date: str
    plain: float
    noise: float
    error: float
    timing_error: float
    nugget: float


@dataclass(frozen=True)
class Row:
    """One candidate.

    Args:
        scores: per prompt; empty where it failed.
        speedup: what all timings together say of it.
        measured: the one that was timed, if it was.
        images: of each metric but the score its values per prompt; of none where the table has no
            more than means, or it failed.
    """

    parameters: ParametersDict
    scores: tuple[float, ...]
    ssim: float
    psnr: float
    speedup: float
    measured: float | None
    failure: str | None
    images: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @cached_property
    def values(self) -> dict[str, list[float]]:
        """Per prompt, by metric, the score among them."""
        return {
            SCORE: list(self.scores),
            **{name: list(each) for name, each in self.images.items()},
        }

    @cached_property
    def key(self) -> str:
        return digest(self.parameters)


@dataclass(frozen=True, eq=False)
class Table:
    """All that was measured of a configuration."""

    baseline: Baseline
    provenance: Provenance
    rows: dict[Cell, list[Row]]

    def but(self, **known: Any) -> Table:
        """The same candidates with something else known of the table."""
        return replace(self, provenance=replace(self.provenance, **known))

    @cached_property
    def spaces(self) -> dict[Cell, Space]:
        """Of each cell the space of which every allowed point is in the table."""
        return {cell: self._space(cell) for cell in self.rows}

    def _space(self, cell: Cell) -> Space:
        axes = combination(cell.accelerators).space(self.baseline.pipeline).axes
        names = [axis.name for axis in axes]
        points = [flatten(row.parameters) for row in self.rows[cell]]
        return spanned([{name: point[name] for name in names} for point in points], axes)

    @cached_property
    def losses(self) -> dict[str, float]:
        """Relative loss over all prompts, by digest of the candidate; infinite where it failed."""
        before = self.baseline.scores[SCORE]
        return {
            row.key: math.inf if row.failure else loss_of(before, row.scores)
            for row in itertools.chain.from_iterable(self.rows.values())
        }


def collect(plan: Plan, command: str) -> Table:
    """The table of a plan whose candidates were all evaluated.

    Args:
        command: that recorded it.

    Raises:
        ValueError: some were not evaluated, or none timed.
    """
    if left := len(plan.unevaluated()):
        raise ValueError(
            f"{plan.configuration.slug}: {left} candidates are not evaluated yet; record goes on"
        )
    with plan.known() as known:
        searches = list(known.values())
        speeds = searches[0].history.speeds
        timings = {
            key: found
            for key, rows in speeds.timings.items()
            if (found := [row for row in rows if row.timing is not None])
        }
        if not timings:
            raise ValueError(f"{plan.configuration.slug}: nothing was timed; record goes on")
        told = [(found[-1].parameters, _speedup(found)) for found in timings.values()]
        pipeline = searches[0].baseline.pipeline
        model, noise = SpeedModel.fit(told, pipeline), _noise(timings.values())
        pairs = [sum(len(_ratios(row)) for row in found) for found in timings.values()]
        provenance = Provenance(
            command,
            today(),
            float(np.median([s for rows in timings.values() for s in _plain(rows)])),
            noise,
            _held_out_error(told, pipeline),
            noise * math.sqrt(MEDIAN * float(np.mean(1 / np.array(pairs)))),
            model.nugget,
        )
        measured = {key: _speedup(found) for key, found in timings.items()}
        rows = {}
        for cell, each in known.items():
            wanted = [nest(point) for point in plan.points[cell]]
            means, _ = model.predict(wanted)
            rows[cell] = [
                _row(
                    parameters,
                    each.history.evaluations[digest(parameters)],
                    math.exp(mean),
                    measured,
                )
                for parameters, mean in zip(wanted, means, strict=True)
            ]
        return Table(searches[0].baseline, provenance, rows)


def _speedup(rows: Sequence[SpeedRow]) -> float:
    """The median over all pairs of a candidate."""
    return float(np.median(np.concatenate([_ratios(row) for row in rows])))


def _row(
    parameters: ParametersDict, evaluation: Evaluation, speedup: float, measured: dict[str, float]
) -> Row:
    return Row(
        parameters=parameters,
        scores=tuple(evaluation.scores.get(SCORE, ())),
        ssim=evaluation.means.get("ssim", math.nan),
        psnr=evaluation.means.get("psnr", math.nan),
        speedup=speedup,
        measured=measured.get(digest(parameters)),
        failure=evaluation.failure,
        images={name: tuple(each) for name, each in evaluation.scores.items() if name != SCORE},
    )


def _plain(rows: Sequence[SpeedRow]) -> list[float]:
    return [seconds for row in rows if row.timing for seconds in row.timing.baseline]


def _ratios(row: SpeedRow) -> NDArray[np.float64]:
    assert row.timing is not None
    return np.array(row.timing.baseline) / np.array(row.timing.accelerated)


def _noise(timings: Any) -> float:
    """Robust standard deviation of the logarithm of a pair's ratio about its candidate's median."""
    off = []
    for rows in timings:
        logs = np.log(np.concatenate([_ratios(row) for row in rows]))
        if len(logs) > 1:
            # About a median of n, deviations are too small.
            off += list(np.abs(logs - np.median(logs)) * math.sqrt(len(logs) / (len(logs) - 1)))
    return float(np.median(off)) / NORMAL if off else 0.0


def _held_out_error(told: Sequence[tuple[ParametersDict, float]], pipeline: PipelineSpec) -> float:
    """Robust standard deviation of the logarithm of predicted over measured speedups, each of a
    candidate that the prediction was not told of."""
    order = np.random.default_rng(0).permutation(len(told))
    off: list[float] = []
    for fold in range(min(FOLDS, len(told))):
        asked = set(order[fold::FOLDS].tolist())
        model = SpeedModel.fit([row for i, row in enumerate(told) if i not in asked], pipeline)
        candidates, speedups = zip(*(told[i] for i in sorted(asked)), strict=True)
        off += list(np.abs(model.predict(candidates)[0] - np.log(speedups)))
    return float(np.median(off)) / NORMAL


def write(table: Table, path: Path) -> None:
    """Writes a table as Parquet."""
    rows = [(cell, row) for cell, each in table.rows.items() for row in each]
    points = [flatten(row.parameters) for _, row in rows]
    names = sorted({name for point in points for name in point})
    prompts = len(table.baseline.prompts)
    columns: dict[str, Any] = {
        "cell": pa.array(["+".join(cell.accelerators) for cell, _ in rows]).dictionary_encode(),
        **{name: pa.array([point.get(name) for point in points]) for name in names},
        "scores": pa.array(
            [row.scores or None for _, row in rows], pa.list_(pa.float32(), prompts)
        ),
        "ssim": pa.array([row.ssim for _, row in rows], pa.float32()),
        "psnr": pa.array([row.psnr for _, row in rows], pa.float32()),
        "speedup": pa.array([row.speedup for _, row in rows], pa.float32()),
        "measured": pa.array([row.measured for _, row in rows], pa.float32()),
        "failure": pa.array([row.failure for _, row in rows], pa.string()),
    }
    if metrics := sorted({name for _, row in rows for name in row.images}):
        each = pa.struct([(name, pa.list_(pa.float32(), prompts)) for name in metrics])
        columns["images"] = pa.array([row.images or None for _, row in rows], each)
    provenance = {"provenance": to_json(table.provenance), "baseline": to_json(table.baseline)}
    whole = pa.table(columns).replace_schema_metadata({KEY: json.dumps(provenance, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(whole, path, compression="zstd", compression_level=19)


def read(path: Path) -> Table:
    """Reads a table.

    Raises:
        RecordError: its metadata is not that of a table.
    """
    whole = pq.read_table(path)
    stored = json.loads(whole.schema.metadata[KEY])
    baseline = parse(Baseline, stored["baseline"], str(path))
    rows: dict[Cell, list[Row]] = {}
    for each in whole.to_pylist():
        cell = Cell(baseline.configuration, tuple(each["cell"].split("+")))
        point: dict[str, Value] = {
            name: value for name, value in each.items() if "." in name and value is not None
        }
        rows.setdefault(cell, []).append(
            Row(
                nest(point),
                tuple(each["scores"] or ()),
                each["ssim"],
                each["psnr"],
                each["speedup"],
                each["measured"],
                each["failure"],
                {name: tuple(own) for name, own in (each.get("images") or {}).items()},
            )
        )
    return Table(baseline, parse(Provenance, stored["provenance"], str(path)), rows)


def tables(folder: Path) -> list[Path]:
    """The tables in a folder."""
    return sorted(folder.glob("*.parquet"))
