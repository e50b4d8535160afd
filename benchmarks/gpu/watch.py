"""How long a run took, and in what share of that time the GPU worked."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diffaccel.machine import gpus

PERIOD = 0.5
"""Seconds between two samples."""


@dataclass(frozen=True)
class Use:
    """A run, all its parts together where it was stopped and went on.

    Args:
        seconds: from start to end.
        parts: how many.
        share: of that time in which the GPU worked, or None where there is none to ask.
    """

    seconds: float
    parts: int
    share: float | None


@contextlib.contextmanager
def watched(path: Path) -> Iterator[None]:
    """Appends samples to a file while the block runs: what is killed loses at most the last one.

    A line holds the start of the run, the seconds since, and the percentage of the last moment in
    which the GPU worked, as nvidia-smi says it (nothing where there is no GPU).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        label, start = f"{time.time():.0f}", time.perf_counter()

        def note(percentage: str) -> None:
            file.write(f"{label},{time.perf_counter() - start:.1f},{percentage}\n")
            file.flush()

        def follow() -> None:
            for percentage in samples:
                note(percentage)

        samples, stop = _samples()
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop()
            thread.join()
            note("")


def _samples() -> tuple[Iterator[str], Callable[[], None]]:
    """Percentages of use, one a GPU and `PERIOD`, empty ones without a GPU; and what ends them."""
    visible = [gpu.uuid for gpu in gpus.visible()]
    if not visible:
        done = threading.Event()
        return iter(lambda: "" if not done.wait(PERIOD) else None, None), done.set
    command = ["nvidia-smi", f"--id={','.join(visible)}", "--query-gpu=utilization.gpu"]
    command += ["--format=csv,noheader,nounits", f"--loop-ms={PERIOD * 1000:.0f}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return _lines(process), process.terminate


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            yield line.strip()


def used(path: Path) -> Use:
    """What `watched` noted, over all runs of a file; nothing where there is none."""
    if not path.exists():
        return Use(0.0, 0, None)
    lengths: dict[str, float] = defaultdict(float)
    samples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        label, seconds, sample = line.split(",")
        lengths[label] = max(lengths[label], float(seconds))
        if sample.isdigit():
            samples.append(int(sample))
    share = sum(samples) / len(samples) / 100 if samples else None
    return Use(sum(lengths.values()), len(lengths), share)
