"""The fault suite: ``python -m tests.faults``, which is ``make faults``.

Every fault is one line of a file, written when it is done, so that what was stopped goes on. Prints
what fails at once, and a table at the end; exit status 1 where anything was lost or wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from diffaccel.machine import locks
from tests.faults.kinds import FAULTS
from tests.faults.suite import Bench, Case, Outcome

Named = tuple[str, int]
"""A fault: its kind and its seed."""
Line = dict[str, Any]
"""What became of one."""
TRIES = 3
"""Times as many as are to be injected of a kind that are tried at most: some come too late."""


def plan(kinds: Sequence[str], lines: Sequence[Line]) -> list[Named]:
    """The faults of the full form that are still to be tried, those that take long first.

    Args:
        lines: what has been tried. What came too late is replaced by another seed.
    """
    wanted = []
    for name in sorted(kinds, key=lambda name: -FAULTS[name].seconds):
        times, own = FAULTS[name].times, [line for line in lines if line["fault"] == name]
        known = {line["seed"] for line in own}
        free = [seed for seed in range(TRIES * times) if seed not in known]
        left = max(0, times - sum(line["injected"] for line in own))
        wanted += [(name, seed) for seed in free[:left]]
    return wanted


def tried(bench: Bench, name: str, seed: int, short: bool) -> Line:
    """One fault, and its line."""
    case, start = Case(bench, random.Random(f"{name} {seed}"), short), time.monotonic()
    try:
        outcome = FAULTS[name].inject(case)
    except Exception:
        outcome = Outcome(True, 0, [traceback.format_exc()])
    return {
        "fault": name,
        "seed": seed,
        **asdict(outcome),
        "seconds": round(time.monotonic() - start, 1),
    }


def start(reference: Bench, fault: Named, folder: Path, short: bool) -> int:
    """Tries a fault in a process of its own, with a temporary folder and locks of its own: so
    others beside it do not wait for the same timing. The process's id; the line is in the
    folder."""
    (folder / "tmp").mkdir(parents=True)
    sys.stdout.flush()
    if child := os.fork():
        return child
    status = 1
    try:
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        os.environ[locks.OWN] = str(folder / "locks")
        line = tried(Bench(folder, reference.reference), *fault, short)
        (folder / "line").write_text(json.dumps(line))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def side_by_side(
    bench: Bench, faults: Sequence[Named], lanes: int, deadline: float, short: bool
) -> Iterator[Line]:
    """Tries faults, so many beside each other, and none that would begin after the deadline."""
    waiting, running = list(faults), dict[int, tuple[Named, Path]]()
    while True:
        while waiting and len(running) < lanes and time.monotonic() < deadline:
            name, seed = fault = waiting.pop(0)
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-{seed}-", dir=bench.folder))
            running[start(bench, fault, folder, short)] = fault, folder
        if not running:
            return
        child, status = os.wait()
        (name, seed), folder = running.pop(child)
        if status == 0:
            line = json.loads((folder / "line").read_text())
        else:
            how = f"its process ended with {os.waitstatus_to_exitcode(status)}"
            line = {"fault": name, "seed": seed, **asdict(Outcome(True, 0, [how])), "seconds": 0.0}
        if line["wrong"] or line["lost"]:
            print(f"{folder} is kept")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        yield line


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


def result(line: Line) -> str:
    """What is to be said of a fault when it is done."""
    if line["wrong"] or line["lost"]:
        return f"{line['lost']} lost; {'; '.join(line['wrong'])}"
    return "ok" if line["injected"] else "too late"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--lanes", type=int, default=1, help="faults beside each other, a core each"
    )
    parser.add_argument("--kind", nargs="+", choices=FAULTS, help="of these alone")
    parser.add_argument("--seed", type=int, nargs="+", help="with these alone")
    parser.add_argument("--short", action="store_true", help="one of each kind that takes little")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin none after so many")
    parser.add_argument("--data", type=Path, default=Path("build/faults.jsonl"))
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    missing = {name: reason for name, each in FAULTS.items() if (reason := each.needs())}
    kinds = [name for name in args.kind or FAULTS if name not in missing]
    args.data.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in args.data.open()] if args.data.exists() else []
    few = args.short or args.seed is not None
    if few:
        kinds = [name for name in kinds if FAULTS[name].short or not args.short]
        wanted = [(name, seed) for name in kinds for seed in args.seed or [0]]
    else:
        wanted = plan(kinds, lines)
    bench = Bench.open(Path(tempfile.mkdtemp(prefix="faults-")))
    while wanted and time.monotonic() < deadline:
        for line in side_by_side(bench, wanted, args.lanes, deadline, args.short):
            lines.append(line)
            with args.data.open("a") as file:
                file.write(json.dumps(line) + "\n")
            said = f"{line['seconds']} s, {result(line)}"
            print(f"{line['fault']} {line['seed']}: {said}", flush=True)
        wanted = [] if few else plan(kinds, lines)
    for name, reason in missing.items():
        print(f"{name}: not tried: {reason}")
    print(report(lines))
    bad = [line for line in lines if line["wrong"] or line["lost"]]
    if not bad:
        shutil.rmtree(bench.folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
