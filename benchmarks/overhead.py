"""What the workflow itself costs.

dry-run: how long the plan of a whole experiment takes. run: an experiment is run in a folder of its
own, and the share of the time in which no job measured is printed. What else is given goes to
snakemake, e.g. a result to make that alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffaccel import config, devices, plan

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "resources" / "experiments"
MEASURING = {"baseline", "search", "verify", "speed", "verdicts"}
"""Rules whose jobs measure; all else is the workflow's own: plans, models, scripts, tables."""
DRY_SECONDS, SHARE = 10.0, 0.05
"""What is allowed."""


def seconds(folder: Path, experiment: Path, *arguments: str) -> float:
    """How long a run takes, as a user starts it.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "diffaccel", "run", *arguments]
    command += ["--configfile", str(experiment)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    taken = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"the run failed:\n{done.stdout}{done.stderr}")
    return taken


def measured(folder: Path) -> list[tuple[float, float]]:
    """From when to when each job measured, by what Snakemake keeps of its outputs."""
    spans: dict[str, tuple[float, float]] = {}
    for path in (folder / ".snakemake" / "metadata").rglob("*"):
        if path.is_file():
            job = json.loads(path.read_text(encoding="utf-8"))
            if job["rule"] in MEASURING and job["endtime"]:
                start, end = spans.get(job["log"][0], (job["starttime"], job["endtime"]))
                spans[job["log"][0]] = min(start, job["starttime"]), max(end, job["endtime"])
    return list(spans.values())


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of what spans cover together."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def dry_run(folder: Path, args: argparse.Namespace) -> bool:
    """Prints how long the plan takes; whether that is allowed."""
    path = args.experiment or EXPERIMENTS / "real.yaml"
    experiment = plan.Experiment(config.read(path))
    taken = [seconds(folder, path, "--dry-run", *args.arguments) for _ in range(args.repeat)]
    middle = statistics.median(taken)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"dry run of {len(experiment.cells)} cells and {len(experiment.targets)} targets: "
        f"{middle:.1f} s, the median of {', '.join(f'{each:.1f}' for each in taken)}, with "
        f"{(used.ru_utime + used.ru_stime) / args.repeat:.1f} s of a core each; "
        f"allowed: {DRY_SECONDS:.0f} s ({devices.describe()[0]})"
    )
    return middle < DRY_SECONDS


def run(folder: Path, args: argparse.Namespace) -> bool:
    """Prints the share of a run in which nothing was measured; whether that is allowed."""
    whole = seconds(folder, args.experiment or EXPERIMENTS / "bench-gpu.yaml", *args.arguments)
    spans = measured(folder)
    work = covered(spans)
    share = 1 - work / whole
    print(
        f"{whole:.1f} s, of which {len(spans)} jobs measured in {work:.1f} s: {share:.1%} are the "
        f"workflow's own; allowed: {SHARE:.0%} ({devices.describe()[0]})"
    )
    return share < SHARE


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    dry = commands.add_parser("dry-run", help="default: the 162 cells of real.yaml")
    dry.add_argument("--repeat", type=int, default=3, choices=range(1, 101), metavar="N")
    dry.set_defaults(function=dry_run)
    whole = commands.add_parser("run", help="default: the full-size models of bench-gpu.yaml")
    whole.set_defaults(function=run)
    for command in (dry, whole):
        command.add_argument("--experiment", type=lambda text: Path(text).absolute())
    args, rest = parser.parse_known_args(argv)
    args.arguments = rest
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "resources").symlink_to(ROOT / "resources")
        sys.exit(0 if args.function(folder, args) else 1)


if __name__ == "__main__":
    main()
