"""The command line: what users call, and the stages as Snakemake's rules call them."""

from __future__ import annotations

import argparse
import errno
import functools
import logging
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from diffaccel.cli import benchmark, compare, first_version, results, runs, stages, store
from diffaccel.errors import InputError
from diffaccel.machine import jobs
from diffaccel.machine.watch import Watch, watched
from diffaccel.registry import suggest
from diffaccel.version import __version__

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


GROUPS = {
    "daily": ("run", "status", "show", "report", "recommend"),
    "results": ("compare", "store", "picture", "selftest"),
    "benchmark and judge": ("prompts", "judge"),
    "older commands, kept for compatibility": (
        *("traversal_search", "explore_upper_bounds", "generate_tasks", "auto_code_gen"),
    ),
}
"""The commands that people call; the others are for the workflow's rules."""


class _Grouped(argparse.ArgumentParser):
    """Its help has the commands by groups, each with a line; its errors are one."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message):
            every = [name for names in GROUPS.values() for name in names]
            message = f"there is no command {unknown[1]!r}; {suggest(unknown[1], every)}"
        self.exit(2, f"diffaccel: {message}. `diffaccel --help` says more\n")

    def format_help(self) -> str:
        (commands,) = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        texts = {each.dest: each.help or "" for each in commands._choices_actions}
        width = max(map(len, texts)) + 2
        found = [self.format_usage(), f"{textwrap.fill(self.description or '', 100)}\n"]
        for group, names in GROUPS.items():
            found.append(f"{group}:")
            found += [
                textwrap.fill(
                    f"{name.ljust(width)}{texts[name]}",
                    100,
                    initial_indent="  ",
                    subsequent_indent=" " * (width + 2),
                )
                for name in names
            ]
            found.append("")
        found.append("`diffaccel COMMAND --help` has the flags of each.\n")
        return "\n".join(found)


def _parser() -> argparse.ArgumentParser:
    parser = _Grouped(
        prog="diffaccel",
        description="Makes diffusion pipelines faster within a limit of the loss of CLIP score, "
        "and measures every script again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"diffaccel {__version__}")
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="command", parser_class=argparse.ArgumentParser
    )
    for add in (
        results.add_show,
        results.add_report,
        store.add_store,
        results.add_recommend,
        compare.add_compare,
        first_version.add_parsers,
        runs.add_run,
        runs.add_status,
        benchmark.add_prompts,
        benchmark.add_judge,
        runs.add_selftest,
        results.add_picture,
        stages.add_stages,
    ):
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one stage. What is wrong with the input is one line and exit status 2."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not getattr(args, "passes_on", False):
        parser.exit(
            2,
            f"diffaccel {args.command}: unrecognized arguments: {' '.join(rest)}. "
            f"`diffaccel {args.command} --help` lists what there is\n",
        )
    args.arguments = rest
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if args.log is not None:
        args.log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(args.log, mode="w"))
    logging.basicConfig(format="%(message)s", handlers=handlers)
    logging.getLogger("diffaccel").setLevel(logging.INFO)
    logging.captureWarnings(True)
    # A log on a full disk is a line less, and not a traceback before what is wrong.
    logging.raiseExceptions = False
    if args.command in stages.OFFLINE:
        # All is fetched by then; measuring neither waits for a network nor needs one.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with jobs.noted(args.log):
        if args.command in stages.GUARDED:
            watched(functools.partial(_do, args))
        else:
            _do(args, Watch())


def _do(args: argparse.Namespace, watch: Watch) -> None:
    args.watch = watch
    try:
        args.function(args)
    except InputError as error:
        logging.error("%s", error)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            logging.error("%s. What was measured is kept: mend that, and run again", error)
            sys.exit(1)
        logging.exception("%s failed", getattr(args, "out", "the command"))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
