"""How well are speeds predicted from a few timed settings?

Takes folders of exhaustive measurements, as ``make bench`` leaves them: baseline records
``<setup>.json`` and journals ``<setup>_<accelerators>.jsonl``. Of each table k settings are taken
as timed, one after the other: the one whose predicted speed is least sure among 20 drawn. The
others are predicted and compared with their measurements. Run by
``python -m benchmarks.prediction FOLDER...``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from diffaccel.accelerators import PipelineFacts, combination
from diffaccel.jsonio import parse
from diffaccel.space import Setting, flatten
from diffaccel.speeds import Floats, SpeedModel
from diffaccel.strategies import _surrogate
from diffaccel.strategies.frontier import LOG_SPEEDUP

TIMED = (0, 3, 5, 8, 12, 20)
SEEDS = 5
DRAWN = 20

Row = tuple[Setting, float]


@dataclass(frozen=True)
class Setup:
    """The timings of one pipeline, by combination (``deepcache+tgate``)."""

    facts: PipelineFacts
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


def setups(folder: Path) -> Iterator[tuple[str, Setup]]:
    """Every pipeline whose baseline lies in a folder, with what was timed on it."""
    for path in sorted(folder.rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or "facts" not in record:
            continue
        cells = {
            journal.stem.removeprefix(f"{path.stem}_"): list(timings(journal))
            for journal in sorted(folder.rglob(f"{path.stem}_*.jsonl"))
        }
        facts = parse(PipelineFacts, record["facts"], str(path))
        yield path.stem, Setup(facts, {name: rows for name, rows in cells.items() if rows})


def timings(journal: Path) -> Iterator[Row]:
    """The settings of a journal with their measured speedups."""
    for line in journal.read_text(encoding="utf-8").splitlines():
        measured = json.loads(line)["measurement"]
        if measured.get("timing") and not measured.get("failure"):
            yield measured["setting"], measured["timing"]["speedup"]


def over_levels(cell: str, setup: Setup, timed: list[Row], asked: list[Row]) -> Floats:
    """Errors of the Gaussian process over the levels, which knows one cell and no phases."""
    space = combination(cell.split("+")).space(setup.facts).on_grid()
    seen, at = (
        np.array([space.levels(flatten(setting)) for setting, _ in rows]) for rows in (timed, asked)
    )
    found, _ = _surrogate.predict(LOG_SPEEDUP, seen, _logs(timed), at)
    return found - _logs(asked)


def trial(
    setup: Setup, pool: list[Row], asked: list[Row] | None, seed: int, cell: str | None = None
) -> dict[int, Outcome]:
    """Outcomes after each number of timings, all taken from ``pool``; of ``asked``, or of what is
    left of the pool."""
    rng = np.random.default_rng(seed)
    left, timed, outcomes = list(pool), list[Row](), {}
    while True:
        model = SpeedModel.fit(timed, setup.facts)
        if len(timed) in TIMED:
            rows = left if asked is None else asked
            mean, std = model.predict([setting for setting, _ in rows])
            levels = over_levels(cell, setup, timed, rows) if cell and timed else np.array([])
            outcomes[len(timed)] = Outcome(mean - _logs(rows), std, levels)
        if len(timed) == max(TIMED) or len(left) <= 1:
            return outcomes
        draw = rng.permutation(len(left))[:DRAWN]
        unsure = model.predict([left[i][0] for i in draw])[1]
        timed.append(left.pop(draw[int(np.argmax(unsure)) if timed else 0]))


def _logs(rows: Sequence[Row]) -> Floats:
    return np.log([speedup for _, speedup in rows])


def trials(known: dict[str, Setup]) -> Iterator[tuple[str, list[dict[int, Outcome]]]]:
    """Each question, with its outcomes on every setup that can answer it."""

    def ask(run: Callable[[Setup, int], dict[int, Outcome]], among: list[Setup]) -> list[dict]:
        return [run(setup, seed) for setup in among for seed in range(SEEDS)]

    cells = dict.fromkeys(cell for setup in known.values() for cell in setup.cells)
    for cell in cells:
        have = [setup for setup in known.values() if cell in setup.cells]
        yield cell, ask(lambda s, i, c=cell: trial(s, s.cells[c], None, i, c), have)
    for cell in cells:
        have = [s for s in known.values() if cell in s.cells and "+" in cell and s.alone(cell)]
        if have:
            run = lambda s, i, c=cell: trial(s, s.alone(c), s.cells[c], i)  # noqa: E731
            yield f"{cell}, timed alone", ask(run, have)
    yield "all cells at once", ask(lambda s, i: trial(s, s.rows, None, i), list(known.values()))
    several = [
        trial(Setup(here.facts, {}), there.rows, here.rows, seed)
        for here in known.values()
        for there in known.values()
        if there is not here and there.facts == here.facts
        for seed in range(SEEDS)
    ]
    if several:
        yield "all cells, timed with another scheduler", several


def show(known: dict[str, Setup]) -> Table:
    """The table of errors; the standard deviations are judged with the clock's noise on top."""
    noises = [SpeedModel.fit(setup.rows, setup.facts).noise for setup in known.values()]
    noise = float(np.mean(noises))
    view = Table(title=f"Speeds predicted; noise of the clock: {noise:.1%}", box=None)
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
    known = {slug: s for folder in parser.parse_args().folders for slug, s in setups(folder)}
    Console(width=110).print(show({slug: setup for slug, setup in known.items() if setup.cells}))


if __name__ == "__main__":
    main()
