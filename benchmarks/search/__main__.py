"""How good is the search, and how much does it cost?

record: measures tables on this machine; a stopped run goes on. collect: makes Parquet of what was
recorded. replay: lets all strategies search the tables, without a GPU. report: the page and the
plot from what the replay gave. decide: the cells of tables, decided here by the search itself.
live: an experiment measured here, and replayed at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before numpy is imported, here and in the processes that are started: they share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.search import peers, record
from benchmarks.search.record import Plan
from diffaccel.errors import InputError
from diffaccel.experiment import config
from diffaccel.experiment.plan import Experiment
from diffaccel.machine import devices, gpus, threads
from diffaccel.store.jsonio import SCHEMA, parse, read_json, to_json, write_text

if TYPE_CHECKING:
    from benchmarks.search.results import Summary
    from benchmarks.search.tables import Table

DATA = Path(__file__).resolve().parent
ROOT = DATA.parents[1]
DOCS = ROOT / "docs" / "experiments"
EXPERIMENT = DATA / "tables.yaml"
CONFIGURATIONS = (
    "mini-SD1.5_DPM-Solver++_20",
    "mini-SD2.1_UniPCMultistepScheduler_20",
    "mini-SDXL_UniPCMultistepScheduler_20",
    "mini-SD2.1_DDIM_20",
    "mini-SD1.5_DDIM_50",
    "mini-SDXL_DPM-Solver++_50",
)
"""Three families, three schedulers, two numbers of steps; recorded in this order."""
DECIDED = (
    "mini-SD1.5_DPM-Solver++_20",
    "mini-SD2.1_UniPCMultistepScheduler_20",
    "mini-SDXL_UniPCMultistepScheduler_20",
)
"""Of these, what is decided live: of each family the one that was recorded first."""
REPLAY, SESSIONS = "replay.json", "live.json"
ALLOWED_REGRET, ALLOWED_SHARE = 0.02, 0.25
LIVE = 100
"""Candidates of a combination that are measured live, at least: on a CPU they take minutes."""


def plans_of(args: argparse.Namespace) -> list[Plan]:
    """The plans of the configurations that are asked for."""
    experiment = Experiment(config.read(args.experiment))
    unknown = sorted(set(args.configurations) - set(experiment.configurations))
    if unknown:
        raise InputError(
            f"no such configurations: {unknown}; there are {list(experiment.configurations)}"
        )
    options = experiment.options
    return [
        Plan.of(
            experiment.spec(experiment.configurations[slug]),
            options,
            [cell for cell in experiment.cells.values() if cell.configuration.slug == slug],
            args.work,
            args.fewest or None,
            args.timed or None,
            small=args.small,
        )
        for slug in args.configurations or experiment.configurations
    ]


def do_record(args: argparse.Namespace) -> bool:
    """Measures; exit status 1 where time ran out before all was measured."""
    done = record.record(plans_of(args), args.workers, 60 * args.minutes, share=args.mps)
    print("everything is measured" if done else "time is up: the same command goes on")
    return done


def do_collect(args: argparse.Namespace) -> bool:
    """Makes tables of what was recorded; configurations that are not complete are left out."""
    from benchmarks.search import tables

    good = True
    for plan in plans_of(args):
        try:
            made = tables.collect(plan, f"python -m benchmarks.search {_recorded(args, plan)}")
        except ValueError as error:
            print(error)
            good = False
            continue
        path = (
            args.tables / made.baseline.environment.platform / f"{plan.configuration.slug}.parquet"
        )
        tables.write(made, path)
        print(f"{path}: {sum(map(len, made.rows.values()))} candidates")
    return good


def _recorded(args: argparse.Namespace, plan: Plan) -> str:
    """The arguments that recorded a plan."""
    experiment = args.experiment.resolve()
    shown = experiment.relative_to(ROOT) if experiment.is_relative_to(ROOT) else experiment.name
    told = [] if experiment == EXPERIMENT else [f"--experiment {shown}"]
    told += [f"--fewest {args.fewest} --timed {args.timed}"]
    told += ["--small"] if args.small else []
    return " ".join(["record", *told, plan.configuration.slug])


def do_decide(args: argparse.Namespace) -> bool:
    """Lets the search decide the cells of tables on this machine, and compares with the tables."""
    from benchmarks.search import live, page
    from benchmarks.search.tables import read

    (folder,) = platforms(args)
    if folder.name != (here := devices.platform()):
        raise InputError(f"the tables are of {folder.name}, and this machine is {here}")
    args.fewest, args.timed, args.small = 0, 0, False
    for plan in plans_of(args):
        for made in live.decide(plan, read(folder / f"{plan.configuration.slug}.parquet")):
            live.keep(made, folder / SESSIONS)
            print(page.live_part([made]), flush=True)
    return True


def do_replay(args: argparse.Namespace) -> bool:
    """Lets strategies search the tables; what is known of others on the same tables stays."""
    from benchmarks.search import results
    from benchmarks.search.tables import tables

    for folder in platforms(args):
        start, paths = time.perf_counter(), tables(folder)
        found = results.run(
            paths, args.strategies, args.seeds, args.batch, args.processes, _progress
        )
        head = {
            "schema": SCHEMA,
            "seeds": args.seeds,
            "batch": args.batch,
            "tables": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        }
        known = [to_json(each) for each in results.summaries(found)]
        known += [
            each
            for each in _stored(folder / REPLAY, head)
            if each["strategy"] not in args.strategies
        ]
        write_text(folder / REPLAY, _compact(head, known))
        print(f"{folder}: replayed in {time.perf_counter() - start:.0f} s")
    return True


def _stored(path: Path, head: dict[str, object]) -> list[dict[str, Any]]:
    """What was replayed before, if it was the same but for the strategies."""
    if not path.exists():
        return []
    stored = read_json(path)
    summaries: list[dict[str, Any]] = stored.pop("summaries")
    return summaries if stored == head else []


def _progress(done: int, whole: int) -> None:
    if done % max(1, whole // 20) == 0:
        print(f"{done} of {whole}", flush=True)


def _compact(head: dict[str, object], summaries: list[dict[str, Any]]) -> str:
    """JSON with a line a summary, so that a change shows."""
    order = sorted(summaries, key=lambda each: (each["cell"], each["strategy"]))
    lines = ",\n".join(json.dumps(each, sort_keys=True) for each in order)
    return f'{json.dumps(head, sort_keys=True)[:-1]}, "summaries": [\n{lines}\n]}}\n'


def do_report(args: argparse.Namespace) -> bool:
    """Writes the page and the plot of the platform that has tables."""
    from benchmarks.search import live, page

    for folder in platforms(args):
        known, measured, batch = _replayed(folder)
        data = f"benchmarks/search/{folder.name}"
        decided = live.kept(folder / SESSIONS)
        text = page.page(known, measured, decided, data, batch)
        write_text(args.docs / "search-benchmark.md", text)
        page.plot(known, args.docs / "search-benchmark.png")
        print(args.docs / "search-benchmark.md")
    return True


def _replayed(folder: Path) -> tuple[list[Summary], list[Table], int]:
    """What replays gave, the tables that they are of, and prompts a call."""
    from benchmarks.search.results import Summary
    from benchmarks.search.tables import read, tables

    stored = read_json(folder / REPLAY)
    known = [parse(Summary, each, REPLAY) for each in stored["summaries"]]
    return known, [read(path) for path in tables(folder)], stored["batch"]


def platforms(args: argparse.Namespace) -> list[Path]:
    """The folder of the platform that has tables.

    Raises:
        InputError: none has, or several have and none is named.
    """
    found = sorted({path.parent for path in args.tables.glob("*/*.parquet")})
    if args.platform:
        found = [folder for folder in found if folder.name == args.platform]
    if len(found) != 1:
        raise InputError(
            f"tables of one platform are needed in {args.tables}; there are those of "
            f"{[folder.name for folder in found]}. Record some, or name one by --platform"
        )
    return found


def do_live(args: argparse.Namespace) -> bool:
    """Measures the grid of an experiment here, thinned for combinations, and replays the product's
    strategies on it; exit status 1 where the default one misses what is expected of it."""
    from benchmarks.search import page, results

    experiment = Experiment(config.read(args.experiment))
    args.work = Path(experiment.config.results) / experiment.platform / "bench"
    args.tables, args.platform = args.work / "tables", experiment.platform
    args.fewest, args.timed, args.small = LIVE, 0, False
    args.configurations, args.strategies = list(experiment.configurations), list(peers.STRATEGIES)
    if not (record.record(plans_of(args), args.workers, 1e6) and do_collect(args)):
        return False
    do_replay(args)
    known, measured, batch = _replayed(args.tables / args.platform)
    print(page.cells_part(known, page.oracle(measured, batch)))
    own = [each for each in known if each.strategy == results.REFERENCE]
    good = all(
        results.median(each.regret) <= ALLOWED_REGRET
        and results.median(each.seconds) <= ALLOWED_SHARE * each.whole
        for each in own
    )
    print(
        f"{results.REFERENCE}: within {ALLOWED_REGRET:.0%} of the bound for at most "
        f"{ALLOWED_SHARE:.0%} of the GPU-seconds in every cell: {'yes' if good else 'NO'}"
    )
    return good


def main(argv: Sequence[str] | None = None) -> None:
    """Exit status 2 where the input is wrong."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    try:
        raise SystemExit(0 if args.function(args) else 1)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    functions = (
        ("record", do_record),
        ("collect", do_collect),
        ("replay", do_replay),
        ("report", do_report),
        ("decide", do_decide),
        ("live", do_live),
    )
    for name, function in functions:
        command = commands.add_parser(name, description=function.__doc__, help=function.__doc__)
        command.set_defaults(function=function)
        if name in ("record", "collect", "decide", "live"):
            default = Path("config.yaml") if name == "live" else EXPERIMENT
            command.add_argument("--experiment", type=Path, default=default)
        if name in ("record", "live"):
            command.add_argument(
                "--workers",
                type=int,
                default=8 if gpus.visible() else 2,
                help="processes that evaluate further a GPU at once (%(default)s)",
            )
        if name in ("record", "collect"):
            _what(command)
        if name == "decide":
            _where(command, Path("results/decided"), DECIDED)
        if name == "record":
            command.add_argument(
                "--minutes", type=float, default=1e4, help="stop cleanly after so many"
            )
            command.add_argument(
                "--mps",
                action="store_true",
                help="processes that evaluate share the GPU by CUDA's multi-process service",
            )
        if name in ("collect", "replay", "report", "decide"):
            command.add_argument("--tables", type=Path, default=DATA)
        if name in ("replay", "report", "decide"):
            command.add_argument("--platform", help="of the tables, where there are several")
        if name in ("replay", "live"):
            command.add_argument("--seeds", type=int, default=10)
            command.add_argument("--batch", type=int, default=8, help="prompts a call")
            command.add_argument("--processes", type=int, default=threads.cores())
        if name == "replay":
            command.add_argument("--strategies", nargs="*", default=peers.names())
        if name == "report":
            command.add_argument("--docs", type=Path, default=DOCS)
    return parser


def _where(command: argparse.ArgumentParser, work: Path, configurations: Sequence[str]) -> None:
    command.add_argument("--work", type=Path, default=work, help="where journals are kept")
    command.add_argument("configurations", nargs="*", default=list(configurations))


def _what(command: argparse.ArgumentParser) -> None:
    _where(command, Path("results/tables"), CONFIGURATIONS)
    command.add_argument(
        "--fewest",
        type=int,
        default=500,
        help="candidates of a combination, at least; 0: its coarse grid (%(default)s)",
    )
    command.add_argument(
        "--timed",
        type=int,
        default=20,
        help="candidates of a cell that are timed; 0: all (%(default)s)",
    )
    command.add_argument(
        "--small", action="store_true", help="fewer values, for a machine without a GPU"
    )


if __name__ == "__main__":
    main()
