"""Commands about a run: `run`, `status` and `selftest`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.registry import suggest
from diffaccel.store.jsonio import dumps, to_json

log = logging.getLogger(__name__)


def _run(args: argparse.Namespace) -> None:
    from diffaccel.run.start import run

    own = args.arguments
    status = run(own[1:] if own[:1] == ["--"] else own)
    if status is None:
        log.info("Nothing to be done: all results are there and up to date.")
    else:
        sys.exit(status)


def _status(args: argparse.Namespace) -> None:
    from diffaccel.run import shown
    from diffaccel.run.progress import find
    from diffaccel.run.reader import Reader

    reader = Reader(find(args.results))
    if args.json:
        print(dumps(to_json(reader.read())), end="")
    else:
        shown.status(reader, args.follow)


def _selftest(args: argparse.Namespace) -> None:
    from diffaccel.evaluation import selftest
    from diffaccel.experiment import config, plan

    experiment = plan.Experiment(config.read(args.config))
    configurations = experiment.configurations | experiment.speeds
    configuration = configurations.get(args.configuration or next(iter(configurations)))
    if configuration is None:
        raise InputError(
            f"no configuration {args.configuration!r}: "
            f"{suggest(args.configuration, configurations)}"
        )
    found = selftest.run(
        configuration, experiment.spec(configuration), experiment.options, args.readings
    )
    print("\n".join(found.lines()))
    sys.exit(0 if found.ok else 1)


def add_run(commands: Any) -> None:
    text = "run the workflow; a run that was stopped or killed just goes on"
    more = (
        f"{text}. All that is given goes to snakemake, also after `--`: -n shows what would be "
        "done, --cores 4 limits it, --configfile FILE and --config key=value change the experiment"
    )
    command = commands.add_parser("run", help=text, description=more)
    command.set_defaults(function=_run, log=None, passes_on=True)


def add_status(commands: Any) -> None:
    text = (
        "how far a run is, be it of another terminal or of another machine that shares the results"
    )
    command = commands.add_parser("status", help=text, description=text)
    command.add_argument(
        "results", nargs="?", type=Path, default=Path("results"), help="default: results"
    )
    # Not args.watch, which every command has.
    command.add_argument("--watch", dest="follow", action="store_true", help="until it ends")
    command.add_argument("--json", action="store_true", help="print everything as JSON")
    command.set_defaults(function=_status, log=None)


def add_selftest(commands: Any) -> None:
    text = "time the baseline pipeline beside itself, which should read 1.00; else, exit status 1"
    command = commands.add_parser("selftest", help=text, description=text)
    command.add_argument(
        "configuration", nargs="?", help="e.g. SD1.5_DDIM_50; default: the first there is"
    )
    command.add_argument("--config", type=Path, default=Path("config.yaml"), help="the experiment")
    command.add_argument("--readings", type=int, default=5, choices=range(1, 101), metavar="N")
    command.set_defaults(function=_selftest, log=None)
