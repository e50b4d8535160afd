"""Is a metric any good? Which notices that a scene broke, how soon, and at what cost.

areas: of a run's results, how well each metric tells a broken image. cost: times the metrics on one
core. search: replays the search with one, two and three limits. report: writes
docs/experiments/metrics.md. The table that they take is recorded by ``python -m benchmarks.search
record`` and ``collect``, with benchmarks/metrics/tables.yaml.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

# Before numpy is imported: one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console
from rich.table import Table

from benchmarks.metrics import cost, page, scored, searching
from benchmarks.metrics.areas import Pooled
from benchmarks.search import tables
from diffaccel.errors import InputError
from diffaccel.experiment import config
from diffaccel.experiment.plan import Experiment
from diffaccel.machine import devices
from diffaccel.store.jsonio import today, write_record


def do_areas(args: argparse.Namespace) -> None:
    """Prints the area of each metric, of the results of a run with ``metrics: [scene_right]``."""
    candidates = list(scored.of_results(args.folder))
    if not candidates:
        raise InputError(f"{args.folder}: no candidate was scored by {scored.TRUTH}")
    pooled = {name: Pooled.of(candidates, name) for name in scored.metrics_of(candidates)}
    broken = next(iter(pooled.values())).broken
    shown = Table(
        "metric", "area", "95% interval", title=f"{len(broken)} images, {broken.sum()} broken"
    )
    for name, each in sorted(pooled.items(), key=lambda item: -item[1].area):
        low, high = each.interval()
        shown.add_row(name, f"{each.area:.3f}", f"{low:.2f} to {high:.2f}")
    Console().print(shown)


def do_cost(args: argparse.Namespace) -> None:
    """Times the metrics of benchmarks/metrics/tables.yaml on one core."""
    experiment = Experiment(config.read(page.HERE / "tables.yaml"))
    spec = experiment.spec(next(iter(experiment.configurations.values())))
    path = page.HERE / devices.platform() / page.COSTS
    write_record(path, cost.measured(spec))
    print(path)


def do_search(args: argparse.Namespace) -> None:
    """Replays the search with one, two and three limits on the tables, and on tables of means."""
    for path, folder, means in (
        (page.DATA / page.REPLAYS, page.DATA, False),
        (page.DATA / page.MEANS, page.TABLES_OF_MEANS, True),
    ):
        paths = tables.tables(folder)
        found = []
        for each in paths:
            table = tables.read(each)
            table = searching.of_means(table) if means else table
            seeds = args.seeds_of_means if means else args.seeds
            if seeds:
                found += searching.searched(table, seeds, lambda said: print(said, flush=True))
        if found:
            known = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in paths}
            write_record(path, searching.Replays(found, searching.BATCH, known, today()))
            print(path)


def do_report(args: argparse.Namespace) -> None:
    """Writes the page."""
    page.PAGE.write_text(page.page(page.read()), encoding="utf-8")
    print(page.PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    functions = {"areas": do_areas, "cost": do_cost, "search": do_search, "report": do_report}
    for name, function in functions.items():
        command = commands.add_parser(name, description=function.__doc__, help=function.__doc__)
        command.set_defaults(function=function)
        if name == "areas":
            command.add_argument("folder", type=Path, help="results/<platform>")
        if name == "search":
            command.add_argument("--seeds", type=int, default=5)
            command.add_argument("--seeds-of-means", type=int, default=2)
    args = parser.parse_args()
    try:
        args.function(args)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
