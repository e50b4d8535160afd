"""The fault suite: ``python -m tests.faults``, which is ``make faults``.

Every fault is one line of a file, written when it is done, so that what was stopped goes on. Prints
what fails at once, and a table at the end; exit status 1 where anything was lost or wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from tests.faults.kinds import FAULTS
from tests.faults.suite import Bench, Case, Outcome


def plan(count: int) -> list[tuple[str, int]]:
    """So many faults with their seeds, each kind in its share, mixed."""
    shares = {name: each.share for name, each in FAULTS.items()}
    total = sum(shares.values())
    wanted = [
        (name, seed)
        for name, share in shares.items()
        for seed in range(max(1, round(count * share / total)))
    ]
    random.Random(0).shuffle(wanted)
    return wanted


def tried(bench: Bench, name: str, seed: int, short: bool) -> dict[str, Any]:
    """One fault, and its line."""
    case, start = Case(bench, random.Random(f"{name} {seed}"), short), time.monotonic()
    try:
        outcome = FAULTS[name].inject(case)
    except Exception as error:
        outcome = Outcome(True, 0, [f"{type(error).__name__}: {error}"])
    if not outcome.wrong and not outcome.lost:
        shutil.rmtree(case.project.folder, ignore_errors=True)
    return {
        "fault": name,
        "seed": seed,
        **asdict(outcome),
        "seconds": round(time.monotonic() - start, 1),
    }


def report(lines: list[dict[str, Any]]) -> str:
    """A row a kind."""
    rows = []
    for name in FAULTS:
        own = [line for line in lines if line["fault"] == name]
        hit = [line for line in own if line["injected"]]
        seeds = sorted(line["seed"] for line in own)
        if own:
            lost, wrong = sum(x["lost"] for x in own), sum(bool(x["wrong"]) for x in own)
            rows.append([name, len(hit), len(own) - len(hit), lost, wrong, _ranges(seeds)])
    sums = [sum(row[i] for row in rows) for i in range(1, 5)]
    rows.append(["all", *sums, ""])
    names = ["fault", "injected", "came too late", "lost measurements", "wrong results", "seeds"]
    return table(names, [[str(cell) for cell in row] for row in rows])


def _ranges(seeds: list[int]) -> str:
    whole = seeds == list(range(len(seeds)))
    return f"0 to {len(seeds) - 1}" if whole and len(seeds) > 1 else ", ".join(map(str, seeds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=340, help="faults in all")
    parser.add_argument("--kind", nargs="+", choices=FAULTS, help="of these alone")
    parser.add_argument("--seed", type=int, nargs="+", help="with these alone")
    parser.add_argument("--short", action="store_true", help="one of each kind that takes little")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--data", type=Path, default=Path("build/faults.jsonl"))
    args = parser.parse_args()
    start = time.monotonic()
    args.data.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in args.data.open()] if args.data.exists() else []
    known = Counter((line["fault"], line["seed"]) for line in lines)
    wanted = [
        each
        for each in plan(args.count)
        if not known[each] and (not args.kind or each[0] in args.kind)
    ]
    if args.short:
        wanted = [(name, 0) for name, each in FAULTS.items() if each.short]
    if args.seed is not None:
        wanted = [(name, seed) for name in args.kind or FAULTS for seed in args.seed]
    missing = {name: reason for name, each in FAULTS.items() if (reason := each.needs())}
    bench = Bench(Path(tempfile.mkdtemp(prefix="faults-")))
    for name, seed in wanted:
        if name in missing or (time.monotonic() - start) / 60 > args.minutes:
            continue
        line = tried(bench, name, seed, args.short)
        lines.append(line)
        with args.data.open("a") as file:
            file.write(json.dumps(line) + "\n")
        said = "ok" if not line["wrong"] and not line["lost"] else f"{line['lost']} {line['wrong']}"
        print(f"{name} {seed}: {line['seconds']} s, {said}", flush=True)
    for name, reason in missing.items():
        print(f"{name}: not tried: {reason}")
    print(report(lines))
    bad = [line for line in lines if line["wrong"] or line["lost"]]
    if not bad:
        shutil.rmtree(bench.folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
