"""A store that was not measured: the records that a search leaves, with made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffaccel.evaluation.records import Baseline, Environment, Measurement
from diffaccel.experiment.grid import Cell, Setup
from diffaccel.experiment.options import MeasureOptions, SearchOptions
from diffaccel.plugins import sources
from diffaccel.plugins.accelerators import PipelineFacts
from diffaccel.plugins.models import FAMILIES, known_models
from diffaccel.plugins.space import SettingDict
from diffaccel.search import pareto
from diffaccel.search.records import Answer, Frontier, Search
from diffaccel.store.jsonio import write_record

ROOT = Path(__file__).parents[1]
LIMIT = 0.02
VERSIONS = {"torch": "2.13.0", "diffusers": "0.42.1"}


def deepcache(interval: int, branch: int = 0) -> SettingDict:
    return {"deepcache": {"cache_interval": interval, "cache_branch_id": branch}}


def tgate(gate: int) -> SettingDict:
    return {"tgate": {"gate_step": gate, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}}


def measurement(
    setting: SettingDict, speedup: float, loss: float, high: float | None = None
) -> Measurement:
    """One whose interval ends at ``high``, by default a thousandth above the loss."""
    interval = (loss - 0.001, loss + 0.001 if high is None else high)
    drawn = (setting, loss, interval, {}, {"ssim": 0.9}, None, 1.0, "2026-11-21")
    return Measurement(*drawn, speedup=speedup, timing=None)


def baseline(setup: Setup, platform: str = "cpu", seconds: float = 8.0) -> Baseline:
    """Of a model that is known by name, with as many prompts as fit into a call."""
    spec = known_models()[setup.model]
    prompts = [f"prompt {number}" for number in range(spec.batch_size)]
    mini = next(each for each in FAMILIES[spec.family].known if sources.is_local(each.source))
    unet = json.loads((ROOT / mini.source / "unet/config.json").read_text(encoding="utf-8"))
    kind = FAMILIES[spec.family].pipeline_class
    scale = spec.guidance_scale
    return Baseline(
        setup=setup,
        spec=spec,
        options=MeasureOptions(prompts=len(prompts)),
        identity={},
        digest=setup.slug,
        environment=Environment(platform, platform, "", "float32", "none", 1, VERSIONS),
        facts=PipelineFacts.of_config(kind, unet, steps=setup.steps, guidance_scale=scale),
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
) -> Frontier:
    return Frontier(
        cell=cell,
        status="refused" if refused else "measured",
        reason=refused,
        loss_limit=limit,
        search=options or SearchOptions("frontier"),
        baseline=baseline(cell.setup).whole,
        bound=pareto.bound(rows, limit),
        front=pareto.front(rows),
        measured=len(rows),
        timed=len(rows),
        seconds=1.0,
        candidates=99,
    )


def write(
    results: Path,
    setup: Setup,
    cells: Mapping[tuple[str, ...], Sequence[Measurement]],
    *,
    platform: str = "cpu",
    answers: Sequence[Answer] = (),
    options: SearchOptions | None = None,
    refused: Mapping[tuple[str, ...], str] | None = None,
) -> None:
    """Writes the records of a setup: its baseline, and what was measured of each cell."""
    folder = results / platform
    known = [
        frontier(Cell(setup, names), rows, options=options, refused=(refused or {}).get(names, ""))
        for names, rows in cells.items()
    ]
    write_record(folder / "baseline" / f"{setup.slug}.json", baseline(setup, platform))
    write_record(folder / "search" / f"{setup.slug}.json", Search(setup, known, list(answers)))
