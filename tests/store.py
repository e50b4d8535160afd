"""A store that was not measured: the records that a search leaves, with made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffaccel.evaluation.records import Baseline, Environment, Measurement
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.options import MeasureOptions, SearchOptions
from diffaccel.plugins import sources
from diffaccel.plugins.accelerators import PipelineSpec
from diffaccel.plugins.models import FAMILIES, known_models
from diffaccel.plugins.space import ParametersDict
from diffaccel.search import pareto
from diffaccel.search.records import Answer, CellResult, Search
from diffaccel.store.jsonio import write_record

ROOT = Path(__file__).parents[1]
LIMIT = 0.02
VERSIONS = {"torch": "2.13.0", "diffusers": "0.42.1"}


def deepcache(interval: int, branch: int = 0) -> ParametersDict:
    return {"deepcache": {"cache_interval": interval, "cache_branch_id": branch}}


def tgate(gate: int) -> ParametersDict:
    return {"tgate": {"gate_step": gate, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}}


def measurement(
    parameters: ParametersDict, speedup: float, loss: float, high: float | None = None
) -> Measurement:
    """One whose interval ends at ``high``, by default a thousandth above the loss."""
    interval = (loss - 0.001, loss + 0.001 if high is None else high)
    evaluated = (parameters, loss, interval, {}, {"ssim": 0.9}, None, 1.0, "2026-11-21")
    return Measurement(*evaluated, speedup=speedup, timing=None)


def baseline(configuration: Configuration, platform: str = "cpu", seconds: float = 8.0) -> Baseline:
    """Of a model that is known by name, with as many prompts as fit into a call."""
    spec = known_models()[configuration.model]
    prompts = [f"prompt {number}" for number in range(spec.batch_size)]
    mini = next(each for each in FAMILIES[spec.family].known if sources.is_local(each.source))
    unet = json.loads((ROOT / mini.source / "unet/config.json").read_text(encoding="utf-8"))
    kind = FAMILIES[spec.family].pipeline_class
    scale = spec.guidance_scale
    return Baseline(
        configuration=configuration,
        spec=spec,
        options=MeasureOptions(prompts=len(prompts)),
        fingerprint={},
        digest=configuration.slug,
        environment=Environment(platform, platform, "", "float32", "none", 1, VERSIONS),
        pipeline=PipelineSpec.of_config(
            kind, unet, steps=configuration.steps, guidance_scale=scale
        ),
        prompts=prompts,
        scores={"clip_score": [80.0] * len(prompts)},
        shuffled_score=10.0,
        seconds=[seconds],
        image_digests=[""] * len(prompts),
        date="2026-11-21",
    )


def frontier(
    cell: Cell,
    rows: Sequence[Measurement],
    *,
    limit: float = LIMIT,
    options: SearchOptions | None = None,
    refused: str = "",
) -> CellResult:
    return CellResult(
        cell=cell,
        status="refused" if refused else "measured",
        reason=refused,
        loss_limit=limit,
        search=options or SearchOptions("frontier"),
        baseline=baseline(cell.configuration).whole,
        bound=pareto.bound(rows, limit),
        front=pareto.front(rows),
        measured=len(rows),
        timed=len(rows),
        seconds=1.0,
        candidates=99,
    )


def write(
    results: Path,
    configuration: Configuration,
    cells: Mapping[tuple[str, ...], Sequence[Measurement]],
    *,
    platform: str = "cpu",
    answers: Sequence[Answer] = (),
    options: SearchOptions | None = None,
    refused: Mapping[tuple[str, ...], str] | None = None,
) -> None:
    """Writes the records of a configuration: its baseline, and what was measured of each cell."""
    folder = results / platform
    known = [
        frontier(
            Cell(configuration, names),
            rows,
            options=options,
            refused=(refused or {}).get(names, ""),
        )
        for names, rows in cells.items()
    ]
    write_record(
        folder / "baseline" / f"{configuration.slug}.json", baseline(configuration, platform)
    )
    write_record(
        folder / "search" / f"{configuration.slug}.json",
        Search(configuration, known, list(answers)),
    )
