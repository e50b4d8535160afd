"""What the workflow itself costs.

dry-run: how long the plan of a whole experiment takes. run: an experiment is run in a folder of its
own, and the share of the time in which no job measured is printed. gpus: the same experiment with
one GPU and with all, and what that changes. What else is given goes to snakemake, e.g. a result to
make that alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffaccel.evaluation.records import Timing
from diffaccel.experiment import config, plan
from diffaccel.machine import devices
from diffaccel.machine.gpus import visible as visible_gpus
from diffaccel.plugins.space import in_words
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.jsonio import read_record

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "resources" / "experiments"
MEASURING = {"baseline", "search", "verify", "speed", "verdicts"}
"""Rules whose jobs measure; all else is the workflow's own: plans, models, scripts, tables."""
DRY_SECONDS, SHARE, AGREEMENT = 10.0, 0.05, 0.02
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


def shared(folder: Path, whole: float) -> tuple[float, str]:
    """The share of a run's seconds in which no job measured, and what to say of it."""
    spans = measured(folder)
    work, together = covered(spans), sum(end - start for start, end in spans)
    share = 1 - work / whole
    return share, (
        f"{whole:.1f} s, in {work:.1f} s of which {len(spans)} jobs measured, {together:.1f} s all "
        f"together: {share:.1%} are the workflow's own"
    )


def project(folder: Path) -> Path:
    """A folder to run in."""
    folder.mkdir()
    (folder / "resources").symlink_to(ROOT / "resources")
    return folder


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
    share, said = shared(folder, whole)
    print(f"{said}; allowed: {SHARE:.0%} ({devices.describe()[0]})")
    return share < SHARE


def gpus(folder: Path, args: argparse.Namespace) -> bool:
    """Prints what several GPUs change; whether the speedups stay the same and two are faster."""
    visible = [gpu.uuid for gpu in visible_gpus()]
    if len(visible) < 2:
        raise SystemExit(f"several GPUs are needed; visible are {visible or 'none'}")
    experiment = args.experiment or EXPERIMENTS / "two-gpus.yaml"
    wholes, found = [], []
    for chosen in (visible[:1], visible):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
        own = project(folder / str(len(chosen)))
        wholes.append(seconds(own, experiment, *args.arguments))
        found.append(timings(own))
        if args.keep:
            shutil.copytree(own / "results", args.keep / own.name, dirs_exist_ok=True)
        print(f"{len(chosen)} GPUs: {shared(own, wholes[-1])[1]}")
    off = []
    for key, one in sorted(found[0].items()):
        many = found[1][key]
        off.append(many.speedup / one.speedup - 1)
        print(f"{key}: {in_short(one)}, {in_short(many)}: {off[-1]:+.1%}")
    worst, used = max(map(abs, off)), len({each.gpu for each in found[1].values()})
    print(
        f"{used} GPUs used; {wholes[0] / wholes[1]:.2f}x as fast as one; speedups differ by "
        f"{worst:.1%} at most, {statistics.median(map(abs, off)):.1%} in the median; allowed: "
        f"{AGREEMENT:.0%} ({devices.describe()[0]})"
    )
    return used == len(visible) and wholes[1] < wholes[0] and worst <= AGREEMENT


def in_short(timing: Timing) -> str:
    """How fast, how sure, and where."""
    return (
        f"{timing.speedup:.3f}x ±{timing.error:.1%} of {timing.counted} pairs on GPU {timing.gpu}"
    )


def timings(folder: Path) -> dict[str, Timing]:
    """Of each configuration and candidate that was timed in a run of untrained models."""
    records = [read_record(SpeedRecord, path) for path in folder.glob("results/*/speed/*.json")]
    return {
        f"{record.configuration.slug}: {in_words(row.parameters) or 'plain'}": row.timing
        for record in records
        for row in record.rows
        if row.timing is not None
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    dry = commands.add_parser("dry-run", help="default: the 162 cells of real.yaml")
    dry.add_argument("--repeat", type=int, default=3, choices=range(1, 101), metavar="N")
    dry.set_defaults(function=dry_run)
    whole = commands.add_parser("run", help="default: the full-size models of bench-gpu.yaml")
    whole.set_defaults(function=run)
    several = commands.add_parser("gpus", help="default: the full-size models of two-gpus.yaml")
    several.add_argument("--keep", type=Path, help="folder for the records of both runs")
    several.set_defaults(function=gpus)
    for command in (dry, whole, several):
        command.add_argument("--experiment", type=lambda text: Path(text).absolute())
    args, rest = parser.parse_known_args(argv)
    args.arguments = rest
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(0 if args.function(project(Path(scratch) / "run"), args) else 1)


if __name__ == "__main__":
    main()
