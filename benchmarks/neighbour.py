"""Does a job on the other cores of a CPU change what is timed?

Times candidates of the default experiment in pairs with the baseline pipeline, on one core: in
alternating blocks the other core is idle, or generates images without a pause, as a search does.
Run by ``python -m benchmarks.neighbour``, on a machine where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.calls import Bench
from diffaccel.experiment import config
from diffaccel.experiment.plan import Experiment
from diffaccel.machine.devices import Device
from diffaccel.plugins.space import ParametersDict

CONFIG = Path(__file__).parents[1] / "config.yaml"
WARM_UP = 30.0
"""Seconds in which the neighbour loads what it needs."""
ROUNDS = 2
"""Of a block."""
CANDIDATES: dict[str, ParametersDict] = {
    "the baseline pipeline": {},
    "DeepCache (3, 0)": {"deepcache": {"cache_interval": 3, "cache_branch_id": 0}},
    "T-Gate (8, 3, 1, 2)": {
        "tgate": {"gate_step": 8, "sp_interval": 3, "fi_interval": 1, "warm_up": 2}
    },
    "fewer steps (10)": {"fewer_steps": {"steps": 10}},
}


def opened() -> Bench:
    """The first configuration of the default experiment."""
    experiment = Experiment(config.read(CONFIG))
    configuration = next(iter(experiment.configurations.values()))
    return benches.open_bench(
        configuration, experiment.spec(configuration), experiment.options, Device("cpu")
    )


def seconds(bench: Bench, candidate: ParametersDict) -> float:
    """Of one call."""
    applied = partial(bench.accelerated, candidate) if candidate else bench.baseline
    return bench.call(applied, bench.batches()[0]).seconds


def generate() -> None:
    """What the neighbour does, until it is killed."""
    bench = opened()
    while True:
        for candidate in CANDIDATES.values():
            seconds(bench, candidate)


def measured(minutes: float) -> dict[bool, dict[str, list[float]]]:
    """Logarithms of the speedups of single pairs: with a busy neighbour, and without."""
    found: dict[bool, dict[str, list[float]]] = {
        busy: {name: [] for name in CANDIDATES} for busy in (True, False)
    }
    neighbour = subprocess.Popen([sys.executable, "-m", "benchmarks.neighbour", "--generate"])
    try:
        bench = opened()
        for candidate in CANDIDATES.values():
            seconds(bench, candidate)
        time.sleep(WARM_UP)
        end, busy = time.monotonic() + 60 * minutes, True
        while time.monotonic() < end or not busy:
            neighbour.send_signal(signal.SIGCONT if busy else signal.SIGSTOP)
            for _ in range(ROUNDS):
                plain = seconds(bench, {})
                for name, candidate in CANDIDATES.items():
                    found[busy][name].append(float(np.log(plain / seconds(bench, candidate))))
            busy = not busy
    finally:
        neighbour.kill()
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbour", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="(%(default)s)")
    parser.add_argument("--generate", action="store_true", help="be the neighbour")
    args = parser.parse_args(argv)
    if args.generate:
        generate()
    found = measured(args.minutes)
    table = Table(title="One timed core, the other idle or busy", box=None, title_justify="left")
    for name in ("candidate", "pairs", "idle: speedup", "pairs apart", "busy: speedup"):
        table.add_column(name, justify="left" if name == "candidate" else "right")
    table.add_column("pairs apart", justify="right")
    table.add_column("busy over idle", justify="right")
    for name in CANDIDATES:
        idle, busy = (np.array(found[which][name]) for which in (False, True))
        error = float(np.hypot(*(each.std(ddof=1) / np.sqrt(len(each)) for each in (idle, busy))))
        table.add_row(
            name,
            str(len(busy)),
            *(
                text
                for each in (idle, busy)
                for text in (f"{np.exp(each.mean()):.2f}x", f"{each.std(ddof=1):.1%}")
            ),
            f"{np.expm1(busy.mean() - idle.mean()):+.1%} ± {error:.1%}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
