"""Does `frontier` find what `exhaustive` finds, and with how many measurements?

For every cell of config.yaml the declared grid is measured exhaustively (once: the journal under
results/ keeps it, and a stopped run goes on), and the other strategies are then replayed on those
measurements: each point that a strategy asks for is looked up instead of measured again, so that
all are judged by the same clock. Run by ``make bench``.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from diffaccel import pareto
from diffaccel.config import load
from diffaccel.jsonio import read_record
from diffaccel.plan import Experiment
from diffaccel.records import Baseline, Measurement, SearchOptions
from diffaccel.space import Point, flatten
from diffaccel.stages import baseline, search
from diffaccel.strategies import STRATEGIES, Observation, Problem

EXACT = "exhaustive"
ALLOWED_REGRET = 0.02
ALLOWED_SHARE = 0.25


@dataclass(frozen=True)
class Outcome:
    """What one strategy found in one cell.

    Args:
        bound: the largest speedup within the loss limit, or none.
        measured: how many points it asked for.
        worst_target: largest loss beyond that of the exhaustive answer over the targets.
        missed: targets that the exhaustive search met and it did not.
    """

    bound: float | None
    measured: int
    worst_target: float
    missed: int


def key(point: Point) -> tuple[tuple[str, object], ...]:
    """A point as a dictionary key."""
    return tuple(sorted(point.items()))


def replay(
    strategy: str, problem: Problem, table: dict[tuple[tuple[str, object], ...], Observation]
) -> list[Observation]:
    """What a strategy sees when its points are looked up."""
    history: list[Observation] = []
    while points := STRATEGIES[strategy].ask(problem, history):
        history += [table[key(point)] for point in points]
    return history


def judge(problem: Problem, seen: list[Observation], exact: list[Observation]) -> Outcome:
    """Compares a strategy's answers with the exhaustive ones."""
    best = pareto.bound(seen, problem.loss_limit)
    worst, missed = 0.0, 0
    for target in problem.targets:
        right = pareto.meet(exact, target, problem.loss_limit)
        found = pareto.meet(seen, target, problem.loss_limit)
        if right is not None and found is None:
            missed += 1
        elif right is not None and found is not None:
            worst = max(worst, found.loss - right.loss)
    return Outcome(best.speedup if best else None, len(seen), worst, missed)


def truth(experiment: Experiment, slug: str, folder: Path) -> tuple[Baseline, list[Measurement]]:
    """The exhaustive measurements of a cell, made where they are missing."""
    cell = experiment.cells[slug]
    record, images = folder / f"{cell.setup.slug}.json", folder / cell.setup.slug
    if not record.exists():
        spec = experiment.spec(cell.setup)
        baseline.run(cell.setup, spec, experiment.options, experiment.platform, record, images)
    measured = read_record(Baseline, record)
    with search.opened([cell], measured, images, folder, SearchOptions(EXACT)) as (cells, measure):
        config = experiment.config
        search.frontiers(cells, measure, config.speedups, config.loss_limit)
        return measured, cells[0].rows()


def observation(row: Measurement) -> Observation:
    """A measurement as strategies see it."""
    return Observation(flatten(row.setting), row.speedup, math.inf if row.failure else row.loss)


def compare(experiment: Experiment, slug: str, folder: Path) -> dict[str, Outcome]:
    """Every strategy's outcome in one cell."""
    measured, rows = truth(experiment, slug, folder)
    exact = [observation(row) for row in rows]
    table = {key(seen.point): seen for seen in exact}
    space = search.combination(experiment.cells[slug].accelerators).space(measured.facts).on_grid()
    problem = Problem(
        space, experiment.config.loss_limit, tuple(experiment.config.speedups), bound=True
    )
    return {name: judge(problem, replay(name, problem, table), exact) for name in STRATEGIES}


def show(console: Console, results: dict[str, dict[str, Outcome]]) -> bool:
    """Prints the table; whether the goals are met in every cell."""
    view = Table(title="Strategies on the same measurements", title_justify="left", box=None)
    view.add_column("cell", no_wrap=True)
    view.add_column("strategy", no_wrap=True)
    for name in ("bound", "regret", "measured", "share", "targets\nmissed", "loss\nmore"):
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
    parser.add_argument("--cells", nargs="*", help="only these (default: all)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    experiment = _experiment(args.config)
    folder = Path(experiment.config.results) / experiment.platform / "bench"
    results = {}
    for slug in args.cells or experiment.cells:
        progress(f"cell {slug}")
        results[slug] = compare(experiment, slug, folder)
    good = show(Console(width=110), results)
    print(
        f"frontier: within {ALLOWED_REGRET:.0%} of the exhaustive bound with at most "
        f"{ALLOWED_SHARE:.0%} of its measurements in every cell: {'yes' if good else 'NO'}"
    )
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
