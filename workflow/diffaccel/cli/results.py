"""Commands that show results: `show`, `report`, `recommend` and `picture`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.evaluation.records import GIB
from diffaccel.machine import devices
from diffaccel.store.jsonio import dumps, to_json, write_output, write_record

log = logging.getLogger(__name__)


def _picture(args: argparse.Namespace) -> None:
    from diffaccel.report import picture

    folders = [results_folder(each) for each in args.results or [None]]
    picture.draw(folders, args.ids, args.columns, args.out)


def _show(args: argparse.Namespace) -> None:
    from diffaccel.report.table import show_summary

    show_summary(results_folder(args.results))


def _report(args: argparse.Namespace) -> None:
    from diffaccel.report import page

    if len(args.compared) > 2:
        raise InputError(f"one folder of results, or two to compare; got {len(args.compared)}")
    if len(args.compared) == 2:
        first, second = args.compared
        log.info("wrote %s", page.write_compared(first, second, args.out))
        return
    folder = results_folder(next(iter(args.compared), None))
    log.info("wrote %s", page.write(folder, args.out, args.parts))


def _recommend(args: argparse.Namespace) -> None:
    from diffaccel.experiment import tasks
    from diffaccel.recipes import recommend

    found = recommend.recommend(
        args.results,
        recommend.configuration_named(args.results, args.model, args.scheduler, args.steps),
        args.speedup,
        args.max_loss,
        [tasks.accelerators_named(each) for each in args.accelerators],
        args.platform,
        recommend.Limits(
            args.max_latency, None if args.max_memory is None else args.max_memory * GIB
        ),
    )
    if args.json:
        print(dumps(to_json(found)), end="")
    else:
        print("\n".join(recommend.lines(found)))
    if args.out is not None and found.status == "met":
        if args.out.suffix == ".py":
            write_output(args.out, recommend.script(args.results, found))
        else:
            write_record(args.out, found.recipes[0])
        log.info("wrote the first of them to %s", args.out)
    sys.exit(recommend.EXITS[found.status])


def results_folder(given: Path | None) -> Path:
    """A platform's folder of results; this one's where none is given.

    Raises:
        InputError: there is no such folder.
    """
    folder = given or Path("results") / devices.platform()
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder} in {Path.cwd()}: change to the folder that has your "
            "results, or name them, e.g. results/cpu; `diffaccel run` makes them"
        )
    return folder


def add_show(commands: Any) -> None:
    command = commands.add_parser("show", help="print the table of what is there")
    command.add_argument("results", nargs="?", type=Path, help="default: this platform's")
    command.set_defaults(function=_show, log=None)


def add_report(commands: Any) -> None:
    text = "write the HTML report of a run; with two folders, compare them"
    command = commands.add_parser("report", help=text, description=text)
    command.add_argument(
        "compared",
        nargs="*",
        type=Path,
        metavar="results",
        help="default: this platform's; two: they are compared",
    )
    command.add_argument(
        "--out",
        type=Path,
        help="default: report.html in the results; of two, compared.html in the first",
    )
    command.add_argument("--parts", action="store_true", help="also charts and tables, each a file")
    command.add_argument("--log", type=Path, help="file that gets what is logged")
    command.set_defaults(function=_report)


def add_recommend(commands: Any) -> None:
    text = (
        "the measured candidate with the least loss at a speedup, or the fastest. Exit status: 0 "
        "found; 3 nothing meets the request, the nearest is printed; 4 nothing was measured"
    )
    command = commands.add_parser("recommend", help=text.split(".")[0], description=text)
    command.add_argument("--model", required=True, help="e.g. SD1.5")
    command.add_argument("--scheduler", required=True, help="e.g. DDIM")
    command.add_argument("--steps", type=int, required=True, help="of the sampler, e.g. 50")
    command.add_argument("--speedup", type=float, help="at least; default: the fastest")
    command.add_argument(
        "--max-loss", type=float, help="0.02 is 2 percent; default: the limit of the run"
    )
    command.add_argument(
        "--max-latency",
        type=float,
        metavar="S",
        help="median seconds of a call (all images of the batch) at most; without --speedup, the "
        "candidate with the least loss that keeps it",
    )
    command.add_argument(
        "--max-memory",
        type=float,
        metavar="GIB",
        help="peak that PyTorch allocates at the measured batch size, at most (on a CPU: of the "
        "process); leave a GPU about 1 GiB for CUDA",
    )
    command.add_argument(
        "--accelerators", nargs="+", default=[], help='these alone, e.g. ToMe "DeepCache, ToMe"'
    )
    command.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    command.add_argument("--platform", help="default: the only one there, or this machine's")
    command.add_argument("--json", action="store_true", help="print everything as JSON")
    command.add_argument(
        "--out", type=Path, help="write the best: as a script (.py), else as a recipe (JSON)"
    )
    command.set_defaults(function=_recommend, log=None)


def add_picture(commands: Any) -> None:
    command = commands.add_parser("picture", help="baseline images above those of scripts, as PNG")
    command.add_argument("ids", nargs="+", help="tasks that were met, of one configuration")
    text = "default: this platform's; of several, the tasks of one below those of the other"
    command.add_argument("--results", type=Path, nargs="+", help=text)
    command.add_argument("--columns", type=int, default=6, help="how many prompts")
    command.add_argument("--out", type=Path, required=True, help="the PNG to write")
    command.set_defaults(function=_picture, log=None)
