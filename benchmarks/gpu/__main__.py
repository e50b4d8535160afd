"""Runs the workflow on a machine with a GPU, keeps what it measured, and shows it.

speed: untrained models of full size, plain and accelerated. What was timed stays; a stopped run
goes on. grid: the whole grid on the embedded models. hours: how long an experiment takes, computed.
report: the pages in docs/ from what is kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import hours, page
from benchmarks.gpu.data import PROOF_USE, SPEED, USE, add_speeds, collect_grid, read_speeds
from benchmarks.gpu.watch import watched
from diffaccel.errors import InputError
from diffaccel.experiment import config
from diffaccel.experiment.plan import Experiment
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.jsonio import read_record, write_text

DATA = Path(__file__).parent
DOCS = DATA.parents[1] / "docs" / "experiments"
EXPERIMENTS = Path("resources/experiments")


def opened(path: Path) -> tuple[Experiment, Path]:
    """An experiment and the folder of its results.

    Raises:
        InputError: it cannot be read.
    """
    experiment = Experiment(config.read(path))
    return experiment, Path(experiment.config.results) / experiment.platform


def check_gpu(experiment: Experiment, *, cpu: bool) -> None:
    """Refuses to measure on a CPU, unless that is what is wanted."""
    if experiment.platform == "cpu" and not cpu:
        raise InputError(
            "no GPU is visible here, and this measures one; --cpu runs it all the same"
        )


def run(experiment: Path, cores: str, targets: Sequence[str] = ()) -> bool:
    """Runs the workflow; whether all of it succeeded."""
    command = [sys.executable, "-m", "diffaccel", "run", *targets, "--cores", cores]
    return subprocess.call([*command, "--configfile", str(experiment)]) == 0


def speed(args: argparse.Namespace) -> bool:
    """Times the configurations one after the other, in the order in which they are named, so that
    what is named first is there when the time is up."""
    path = args.experiment or EXPERIMENTS / "bench-gpu.yaml"
    experiment, results = opened(path)
    check_gpu(experiment, cpu=args.cpu)
    unknown = sorted(set(args.configurations) - set(experiment.speeds))
    if unknown:
        raise InputError(f"no such configurations: {unknown}; there are {list(experiment.speeds)}")
    folder, good = args.data / experiment.platform, True
    for slug in args.configurations or experiment.speeds:
        record = results / "speed" / f"{slug}.json"
        good &= run(path, args.cores, [str(record)])
        if record.exists():
            add_speeds(folder, [read_record(SpeedRecord, record)])
    if kept := read_speeds(folder):
        print(page.speed_part(kept))
    return good


def grid(args: argparse.Namespace) -> bool:
    """Runs the grid up to the scripts, then proves them; what failed is in the record."""
    path = args.experiment or EXPERIMENTS / "mini.yaml"
    experiment, results = opened(path)
    check_gpu(experiment, cpu=args.cpu)
    with watched(results / USE):
        good = run(path, args.cores, ["scripts"])
    if not args.unproven:
        with watched(results / PROOF_USE):
            good &= run(path, args.cores)
    record = collect_grid(results, Path(".snakemake/metadata"), args.data / experiment.platform)
    print(page.grid_part(record))
    return good


def count_hours(args: argparse.Namespace) -> bool:
    """Says how many GPU-hours an experiment of full-size models takes on each platform that has
    data; nothing is measured."""
    experiment, _ = opened(args.experiment or EXPERIMENTS / "real.yaml")
    for folder in sorted(path for path in args.data.iterdir() if (path / SPEED).is_file()):
        print(folder.name)
        print("\n".join(f"  {line}" for line in hours.lines(hours.read(experiment, folder))))
    return True


def report(args: argparse.Namespace) -> bool:
    """Writes a page a platform that has data."""
    for folder in sorted(path for path in args.data.iterdir() if path.is_dir()):
        text = page.page(folder)
        if text is not None:
            write_text(args.docs / page.name(folder.name), text)
            print(args.docs / page.name(folder.name))
    return True


def main(argv: Sequence[str] | None = None) -> None:
    """Exit status 1 where a job failed, 2 where the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (
        ("speed", speed),
        ("grid", grid),
        ("hours", count_hours),
        ("report", report),
    ):
        command = commands.add_parser(name, description=function.__doc__, help=function.__doc__)
        command.set_defaults(function=function)
        command.add_argument("--data", type=Path, default=DATA, help="what is kept (%(default)s)")
        if function is report:
            command.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
            continue
        command.add_argument("--experiment", type=Path, help="another than the shipped one")
        if function is count_hours:
            continue
        command.add_argument("--cores", default="all", help="CPU cores (%(default)s)")
        command.add_argument("--cpu", action="store_true", help="run without a GPU, too")
        if function is grid:
            command.add_argument("--unproven", action="store_true", help="stop at the scripts")
        if function is speed:
            command.add_argument("configurations", nargs="*", help="only these, in this order")
    args = parser.parse_args(argv)
    try:
        raise SystemExit(0 if args.function(args) else 1)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
