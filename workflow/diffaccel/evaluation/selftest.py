"""A/A: the baseline pipeline beside itself, timed as all else is. It should read 1.00."""

from __future__ import annotations

import math
from dataclasses import dataclass

from diffaccel.evaluation.calls import Candidate, MeasureError
from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import SpeedRow, Timing
from diffaccel.evaluation.timing import time_candidates
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.machine import devices
from diffaccel.plugins.models import ModelSpec

ALLOWED = {"cpu": 0.05, "gpu": 0.01}
"""How far a reading may be off, relative: processors are shared with others, a GPU is not."""


@dataclass(frozen=True)
class Readings:
    """Timings of the baseline pipeline beside itself, one after the other.

    Args:
        where: name of the device.
        allowed: how far each may be off 1.00.
    """

    configuration: Configuration
    where: str
    allowed: float
    rows: list[SpeedRow]

    @property
    def timings(self) -> list[Timing]:
        return [row.timing for row in self.rows if row.timing is not None]

    @property
    def worst(self) -> float:
        """How far the worst of them is off."""
        return max(abs(timing.speedup - 1) for timing in self.timings)

    @property
    def ok(self) -> bool:
        return self.worst <= self.allowed

    @property
    def together(self) -> Timing:
        """The pairs of all readings as one: how noisy they are, more surely than each alone."""
        return timing_of([pair for timing in self.timings for pair in timing.pairs])

    @property
    def needed(self) -> int | None:
        """How many pairs a timing must have to be no further off than is allowed, 19 times in 20:
        two standard errors. None where there was one pair, which does not tell."""
        every = self.together
        if math.isinf(every.error):
            return None
        return max(1, math.ceil(len(every.baseline) * (2 * every.error / self.allowed) ** 2))

    def lines(self) -> list[str]:
        """A line a reading, and what to think of them."""
        found = [f"{self.configuration.slug} beside itself on {self.where}"]
        for timing in self.timings:
            repeated = f", {len(timing.outliers)} repeated" if timing.outliers else ""
            drift = f", drift {timing.drift:+.1%}" if timing.drift else ""
            pairs = f"{len(timing.baseline)} pairs{repeated}{drift}"
            found.append(f"{timing.speedup:.4f}x +-{timing.error:.1%} ({pairs})")
        every = self.together
        if self.needed is not None:
            found.append(
                f"all {len(every.baseline)} pairs: {every.speedup:.4f}x +-{every.error:.1%}; a "
                f"timing that is known to {self.allowed:.0%} takes {self.needed} (measure.pairs, "
                "measure.max_pairs)"
            )
        verdict = "the timing can be trusted" if self.ok else "do not trust the timing"
        found.append(f"at most {self.worst:.1%} off, {self.allowed:.0%} allowed: {verdict}")
        return found


def run(
    configuration: Configuration, spec: ModelSpec, options: MeasureOptions, count: int
) -> Readings:
    """Takes so many readings.

    Raises:
        InputError: the model cannot be loaded, or its baseline pipeline fails.
    """
    from diffaccel.evaluation import bench as benches

    with devices.hold_device(spec.jobs_per_gpu, spec.threads) as device, device.shared():
        bench = benches.open_bench(configuration, spec, options, device)
        # What `time_candidates` calls once before it times is the warm-up.
        rows = [
            row
            for _ in range(count)
            for row in time_candidates(bench, [Candidate({}, bench.baseline)])
        ]
        where, _ = devices.describe()
    if (failure := next((row.failure for row in rows if row.failure), None)) is not None:
        raise MeasureError(f"{configuration.slug}: the baseline pipeline fails: {failure}")
    kind = "cpu" if device.name == "cpu" else "gpu"
    return Readings(configuration, where, ALLOWED[kind], rows)
