"""How well are speeds predicted from a few timed candidates?

Takes folders of exhaustive measurements, as ``make bench`` leaves them: baseline records
``<configuration>.json`` and journals ``<configuration>_<accelerators>.jsonl``. Of each table k
candidates are taken
as timed, one after the other: the one whose predicted speed is least sure among 20 evaluated. The
others are predicted and compared with their measurements. Of the files ``speed.jsonl`` that
``make bench-gpu`` keeps, about ten candidates a configuration, each is predicted from the others.
Run by ``python -m benchmarks.prediction FOLDER...``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.models import FAMILIES
from diffaccel.plugins.space import Parameters, flatten
from diffaccel.search.gaussian import Floats
from diffaccel.search.speeds import SpeedModel
from diffaccel.search.strategies import _surrogate
from diffaccel.search.strategies.frontier import LOG_SPEEDUP
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.jsonio import parse

TIMED = (0, 3, 5, 8, 12, 20)
SEEDS = 5
DRAWN = 20

Row = tuple[Parameters, float]


@dataclass(frozen=True)
class Configuration:
    """The timings of one pipeline, by combination (``deepcache+tgate``)."""

    pipeline: PipelineSpec
    cells: dict[str, list[Row]]

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.cells.values() for row in rows]

    def alone(self, cell: str) -> list[Row]:
        """Timings of the members of a combination, each without the others."""
        return [row for name in cell.split("+") for row in self.cells.get(name, [])]


@dataclass(frozen=True)
class Outcome:
    """Errors of predicted log-speedups, their standard deviations and the errors of a Gaussian
    process over the levels of the axes, where there is one."""

    error: Floats
    std: Floats
    levels: Floats


def configurations(folder: Path) -> Iterator[tuple[str, Configuration]]:
    """Every pipeline whose baseline lies in a folder, with what was timed on it."""
    for path in sorted(folder.rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or "pipeline" not in record:
            continue
        cells = {
            journal.stem.removeprefix(f"{path.stem}_"): list(timings(journal))
            for journal in sorted(folder.rglob(f"{path.stem}_*.jsonl"))
        }
        pipeline = parse(PipelineSpec, record["pipeline"], str(path))
        yield (
            path.stem,
            Configuration(pipeline, {name: rows for name, rows in cells.items() if rows}),
        )


def timings(journal: Path) -> Iterator[Row]:
    """The candidates of a journal with their measured speedups."""
    for line in journal.read_text(encoding="utf-8").splitlines():
        measured = json.loads(line)["measurement"]
        if measured.get("timing") and not measured.get("failure"):
            yield measured["parameters"], measured["timing"]["speedup"]


def over_levels(
    cell: str, configuration: Configuration, timed: list[Row], asked: list[Row]
) -> Floats:
    """Errors of the Gaussian process over the levels, which knows one cell and no step kinds."""
    space = combination(cell.split("+")).space(configuration.pipeline).on_grid()
    seen, at = (
        np.array([space.levels(flatten(parameters)) for parameters, _ in rows])
        for rows in (timed, asked)
    )
    found, _ = _surrogate.predict(LOG_SPEEDUP, seen, _logs(timed), at)
    return found - _logs(asked)


def trial(
    configuration: Configuration,
    pool: list[Row],
    seed: int,
    *,
    asked: list[Row] | None = None,
    cell: str | None = None,
    away: bool = False,
) -> dict[int, Outcome]:
    """Outcomes by the number of timings, which are all taken from ``pool``.

    Args:
        asked: what is predicted; what is left of the pool, unless given.
        cell: where all are of this cell, the levels are asked, too.
        away: the timings are of another configuration.
    """
    rng = np.random.default_rng(seed)
    pipeline, left, timed, outcomes = configuration.pipeline, list(pool), list[Row](), {}
    while True:
        transfer = [(*row, pipeline) for row in timed] if away else []
        model = SpeedModel.fit([] if away else timed, pipeline, transfer)
        if len(timed) in TIMED:
            rows = left if asked is None else asked
            mean, std = model.predict([parameters for parameters, _ in rows])
            levels = (
                over_levels(cell, configuration, timed, rows) if cell and timed else np.array([])
            )
            outcomes[len(timed)] = Outcome(mean - _logs(rows), std, levels)
        if len(timed) == max(TIMED) or len(left) <= 1:
            return outcomes
        evaluate = rng.permutation(len(left))[:DRAWN]
        unsure = model.predict([left[i][0] for i in evaluate])[1]
        timed.append(left.pop(evaluate[int(np.argmax(unsure)) if timed else 0]))


def full_size(folder: Path) -> Iterator[tuple[str, Configuration]]:
    """Every untrained pipeline of which a folder has timings; all of a configuration's are one
    cell."""
    for path in sorted(folder.rglob("speed.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = parse(SpeedRecord, json.loads(line), str(path))
            spec = record.spec
            pipe = FAMILIES[spec.family].load(spec, spec.dtype, "meta")
            pipeline = PipelineSpec.of(
                pipe,
                steps=record.configuration.steps,
                guidance_scale=spec.guidance_scale,
                size=(spec.height, spec.width),
            )
            rows = [(row.parameters, row.speedup) for row in record.rows if row.parameters]
            timed: list[Row] = [(parameters, speedup) for parameters, speedup in rows if speedup]
            yield (
                record.configuration.slug,
                Configuration(replace(pipeline, device="cuda"), {"": timed}),
            )


def one_by_one(configuration: Configuration) -> Outcome:
    """Each candidate predicted from all others of its configuration."""
    rows = configuration.rows
    found = [
        SpeedModel.fit(rows[:i] + rows[i + 1 :], configuration.pipeline).predict([rows[i][0]])
        for i in range(len(rows))
    ]
    mean, std = np.concatenate(found, axis=1)
    return Outcome(mean - _logs(rows), std, np.array([]))


def from_other_steps(configuration: Configuration, others: list[Configuration]) -> Outcome:
    """All candidates of a configuration, of which none is timed, from what is timed of others."""
    rows = [(*row, other.pipeline) for other in others for row in other.rows]
    mean, std = SpeedModel.fit([], configuration.pipeline, rows).predict(
        [s for s, _ in configuration.rows]
    )
    return Outcome(mean - _logs(configuration.rows), std, np.array([]))


def show_full_size(known: dict[str, Configuration]) -> Table:
    """The table of errors at full size."""
    view = Table(title="Speeds predicted at full size", title_justify="left", box=None)
    view.add_column("configuration", no_wrap=True)
    for name in ("candidates", "from", "median\nerror", "worst", "within\n1 std", "2 std"):
        view.add_column(name, justify="right")
    for slug, configuration in known.items():
        kin = [s for name, s in known.items() if name != slug and _model(name) == _model(slug)]
        outcomes = {"the others": one_by_one(configuration)}
        if kin:
            outcomes["other steps"] = from_other_steps(configuration, kin)
        for source, outcome in outcomes.items():
            error, std = abs(outcome.error), outcome.std
            view.add_row(
                slug,
                str(len(error)),
                source,
                *(f"{value:.1%}" for value in (np.median(error), error.max())),
                *(f"{(error < n * std).mean():.0%}" for n in (1, 2)),
            )
    return view


def _model(slug: str) -> str:
    return slug.split("_")[0]


def _logs(rows: Sequence[Row]) -> Floats:
    return np.log([speedup for _, speedup in rows])


def trials(known: dict[str, Configuration]) -> Iterator[tuple[str, list[dict[int, Outcome]]]]:
    """Each question, with its outcomes on every configuration that can answer it."""

    seeds = range(SEEDS)
    for cell in dict.fromkeys(
        cell for configuration in known.values() for cell in configuration.cells
    ):
        have = [configuration for configuration in known.values() if cell in configuration.cells]
        yield cell, [trial(s, s.cells[cell], seed, cell=cell) for s in have for seed in seeds]
        if "+" in cell and all(s.alone(cell) for s in have):
            yield (
                f"{cell}, timed alone",
                [
                    trial(s, s.alone(cell), seed, asked=s.cells[cell])
                    for s in have
                    for seed in seeds
                ],
            )
    yield "all cells", [trial(s, s.rows, seed) for s in known.values() for seed in seeds]
    others = [(s, t) for s in known.values() for t in known.values() if s is not t]
    kin = [(s, t) for s, t in others if s.pipeline == t.pipeline]
    if kin:
        yield (
            "all cells, another scheduler timed",
            [trial(s, t.rows, seed, asked=s.rows, away=True) for s, t in kin for seed in seeds],
        )


def show(known: dict[str, Configuration]) -> Table:
    """The table of errors; the standard deviations are judged with the timing's noise on top."""
    noises = [
        SpeedModel.fit(configuration.rows, configuration.pipeline).noise
        for configuration in known.values()
    ]
    noise = float(np.mean(noises))
    view = Table(
        title=f"Speeds predicted; noise of the timing: {noise:.1%}", title_justify="left", box=None
    )
    view.add_column("predicted", no_wrap=True)
    for name in (
        "timed",
        "median\nerror",
        "90%",
        "within\n1 std",
        "2 std",
        "levels:\nmedian",
        "90%",
    ):
        view.add_column(name, justify="right")
    for title, outcomes in trials(known):
        for k in TIMED:
            found = [outcome[k] for outcome in outcomes if k in outcome]
            if not found:
                continue
            error = abs(np.concatenate([each.error for each in found]))
            std = np.hypot(np.concatenate([each.std for each in found]), noise)
            levels = abs(np.concatenate([each.levels for each in found]))
            view.add_row(
                title,
                str(k),
                *(f"{np.quantile(error, q):.1%}" for q in (0.5, 0.9)),
                *(f"{(error < n * std).mean():.0%}" for n in (1, 2)),
                *(f"{np.quantile(levels, q):.1%}" if levels.size else "" for q in (0.5, 0.9)),
            )
    return view


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    folders, console = parser.parse_args().folders, Console(width=110)
    for find, table in ((configurations, show), (full_size, show_full_size)):
        known = {
            slug: configuration
            for folder in folders
            for slug, configuration in find(folder)
            if configuration.rows
        }
        if known:
            console.print(table(known))


if __name__ == "__main__":
    main()
