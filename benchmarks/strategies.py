"""Does `frontier` find what `exhaustive` finds, and with how many measurements?

For every cell of config.yaml the declared grid is drawn and timed exhaustively (once: the journals
under results/ keep it, and a stopped run goes on), and the other strategies are then replayed on
those measurements: what the search wants drawn or timed is looked up instead of measured again, so
that all are judged by the same clock. Run by ``make bench``.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from diffaccel import pareto
from diffaccel.config import load
from diffaccel.grid import Cell
from diffaccel.jsonio import digest, read_record
from diffaccel.plan import Experiment
from diffaccel.records import Baseline, Drawing, Measurement, SearchOptions, SpeedRow
from diffaccel.stages import baseline, search
from diffaccel.stages.cell import CellSearch, Wanted
from diffaccel.strategies import STRATEGIES

EXACT = "exhaustive"
ALLOWED_REGRET = 0.02
ALLOWED_SHARE = 0.25


@dataclass(frozen=True)
class Outcome:
    """What one strategy found in one cell.

    Args:
        bound: the largest speedup within the loss limit, or none.
        measured: how many settings it had drawn.
        timed: how many of them it had timed.
        worst_target: largest loss beyond that of the exhaustive answer over the targets.
        missed: targets that the exhaustive search met and it did not.
    """

    bound: float | None
    measured: int
    timed: int
    worst_target: float
    missed: int


class Replay:
    """Looks up what was measured of a setup; a setting timed again reads what it read last."""

    def __init__(self, cells: Sequence[CellSearch]) -> None:
        self._drawings = {key: row for cell in cells for key, row in cell.drawings.items()}
        self._timings = {key: rows[-1] for cell in cells for key, rows in cell.timings.items()}

    def draw(self, wanted: Wanted) -> list[Drawing]:
        return [self._drawings[digest(setting)] for _, setting in wanted]

    def clock(self, wanted: Wanted) -> list[SpeedRow]:
        return [self._timings[digest(setting)] for _, setting in wanted]


def judge(
    cell: CellSearch, exact: list[Measurement], targets: Sequence[float], limit: float
) -> Outcome:
    """Compares a strategy's answers with the exhaustive ones."""
    seen = cell.usable()
    best = pareto.bound(seen, limit)
    worst, missed = 0.0, 0
    for target in targets:
        right = pareto.meet(exact, target, limit)
        found = pareto.meet(seen, target, limit)
        if right is not None and found is None:
            missed += 1
        elif right is not None and found is not None:
            worst = max(worst, found.loss - right.loss)
    bound = best.speedup if best else None
    return Outcome(bound, len(cell.drawings), len(cell.timings), worst, missed)


def measured_baseline(experiment: Experiment, slug: str, folder: Path) -> tuple[Baseline, Path]:
    """The baseline of a setup and its images, made where they are missing."""
    setup, record, images = experiment.setups[slug], folder / f"{slug}.json", folder / slug
    if not record.exists():
        spec = experiment.spec(setup)
        baseline.run(setup, spec, experiment.options, experiment.platform, record, images)
    return read_record(Baseline, record), images


def compare(
    experiment: Experiment, slug: str, cells: Sequence[Cell], folder: Path
) -> dict[str, dict[str, Outcome]]:
    """Every strategy's outcome in every cell of a setup, by cell and strategy."""
    config = experiment.config
    targets, limit = config.speedups, config.loss_limit
    measured, images = measured_baseline(experiment, slug, folder)
    with search.opened(cells, measured, images, folder, SearchOptions(EXACT)) as (exact, live):
        search.frontiers(exact, live, targets, limit)
    replay = Replay(exact)
    results: dict[str, dict[str, Outcome]] = {cell.slug: {} for cell in cells}
    for name in STRATEGIES:
        with (
            tempfile.TemporaryDirectory() as scratch,
            search.opened(cells, measured, images, Path(scratch), SearchOptions(name)) as (own, _),
        ):
            search.frontiers(own, replay, targets, limit)
            for cell, truth in zip(own, exact, strict=True):
                results[cell.cell.slug][name] = judge(cell, truth.usable(), targets, limit)
    return results


def show(console: Console, results: dict[str, dict[str, Outcome]]) -> bool:
    """Prints the table; whether the goals are met in every cell."""
    view = Table(title="Strategies on the same measurements", title_justify="left", box=None)
    view.add_column("cell", no_wrap=True)
    view.add_column("strategy", no_wrap=True)
    for name in ("bound", "regret", "drawn", "timed", "share", "targets\nmissed", "loss\nmore"):
        view.add_column(name, justify="right", no_wrap=True)
    good = True
    for slug, outcomes in results.items():
        exact = outcomes[EXACT]
        for name, outcome in outcomes.items():
            regret = _regret(exact.bound, outcome.bound)
            share = outcome.measured / exact.measured
            if name == "frontier":
                good &= regret <= ALLOWED_REGRET and share <= ALLOWED_SHARE
            view.add_row(
                slug,
                name,
                "none" if outcome.bound is None else f"{outcome.bound:.3f}x",
                f"{regret:.1%}",
                str(outcome.measured),
                str(outcome.timed),
                f"{share:.0%}",
                str(outcome.missed),
                f"{outcome.worst_target:.1%}",
            )
    console.print(view)
    console.print("loss more: the largest loss beyond the exhaustive answer's over the targets")
    return good


def _regret(exact: float | None, found: float | None) -> float:
    if exact is None:
        return 0.0
    return 1.0 if found is None else 1 - found / exact


def _experiment(path: Path) -> Experiment:
    return Experiment(load(yaml.safe_load(path.read_text(encoding="utf-8"))))


def main(progress: Callable[[str], None] = logging.info) -> None:
    """Measures what is missing, replays, prints. Exit status 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    experiment = _experiment(args.config)
    folder = Path(experiment.config.results) / experiment.platform / "bench"
    results = {}
    for slug in experiment.setups:
        cells = [cell for cell in experiment.cells.values() if cell.setup.slug == slug]
        progress(f"setup {slug}")
        results |= compare(experiment, slug, cells, folder)
    good = show(Console(width=110), results)
    print(
        f"frontier: within {ALLOWED_REGRET:.0%} of the exhaustive bound with at most "
        f"{ALLOWED_SHARE:.0%} of its measurements in every cell: {'yes' if good else 'NO'}"
    )
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
