"""`diffaccel store`: what was measured, across versions and machines."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from diffaccel.run.stores import ROW_KINDS
from diffaccel.store.jsonio import dumps, write_text

log = logging.getLogger(__name__)


def _store_list(args: argparse.Namespace) -> None:
    from diffaccel.run import listing

    rows = listing.overview(args.results)
    if args.json:
        print(dumps(rows), end="")
        return
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        print("  ".join(str(row[name]).ljust(width) for name, width in widths.items()).rstrip())


def _store_check(args: argparse.Namespace) -> None:
    from diffaccel.run import listing

    if found := listing.problems(args.results):
        print("\n".join(found))
        sys.exit(1)
    log.info("%s: all is as it was written", args.results)


def _store_merge(args: argparse.Namespace) -> None:
    from diffaccel.run import merging

    conflicts = 0
    for source in args.sources:
        done = merging.merge(source, args.into)
        for path, count in done.rows.items():
            print(f"{count} rows into {path}")
        for path in done.records:
            print(f"copied {path}")
        for line in done.unread:
            print(f"left out: {line}")
        for line in done.conflicts:
            print(f"conflict, what was there is kept: {line}")
        conflicts += len(done.conflicts)
    sys.exit(1 if conflicts else 0)


def _store_export(args: argparse.Namespace) -> None:
    from diffaccel.run import listing

    rows = [
        listing.flat(row)
        for folder in listing.platforms(args.results)
        for row in listing.Store(folder).rows(args.kind)
    ]
    if args.out.suffix == ".jsonl":
        write_text(args.out, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        import pandas as pd

        write_text(args.out, pd.DataFrame(rows).to_csv(index=False))
    log.info("%d rows in %s", len(rows), args.out)


def add_store(commands: Any) -> None:
    text = "what was measured, across versions and machines"
    actions = commands.add_parser("store", help=text, description=text).add_subparsers(
        required=True, metavar="ACTION"
    )
    described = {
        "list": (_store_list, "what is there, by platform and configuration"),
        "check": (_store_check, "say what is not as it was written; exit status 1 if anything"),
        "merge": (
            _store_merge,
            "add the results of other machines. What is there stays: what contradicts it is said, "
            "and left out; exit status 1 if anything does",
        ),
        "export": (_store_export, "all rows of the journals as one table"),
    }
    made = {}
    for name, (function, text) in described.items():
        made[name] = actions.add_parser(name, help=text.split(".")[0], description=text)
        made[name].set_defaults(function=function, log=None)
    results: dict[str, Any] = {"type": Path, "default": Path("results")}
    for name in ("list", "check", "export"):
        made[name].add_argument("results", nargs="?", help="default: results", **results)
    made["list"].add_argument("--json", action="store_true", help="print it as JSON")
    merge, export = made["merge"].add_argument, made["export"].add_argument
    merge("sources", nargs="+", type=Path, help="folders of results of other machines")
    merge("--into", help="folder that they are added to; default: results", **results)
    export("--kind", nargs="+", choices=ROW_KINDS, default=[], help="of these alone")
    export("--out", type=Path, required=True, help="the file to write, .csv or .jsonl")
