"""What a cache can gain in a call of few steps, as distilled models make it.

``python -m benchmarks.few_steps`` writes docs/experiments/few-steps.md. Nothing is measured: it
takes the recorded times of whole calls of 20 and 50 steps (``benchmarks/gpu``) apart into what a
full step, a cached step and the rest of a call take, and adds up calls of 2, 4 and 8 steps.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gpu.data import read_speeds
from benchmarks.markdown import table
from diffaccel.stages.records import SpeedRecord

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "gpu" / "nvidia-h100-80gb-hbm3"
NOTES = Path(__file__).with_name("few_steps.md")
PAGE = ROOT / "docs" / "experiments" / "few-steps.md"
MODELS = ("SD1.5", "SDXL")
STEPS = (2, 4, 8)
INTERVALS = (2, 4, 8)
HALF = 0.5
"""Of a step's time without guidance: the U-Net has half as many rows to compute. A GPU that is not
full takes more."""


@dataclass(frozen=True)
class Parts:
    """Seconds of what a call consists of.

    Args:
        rest: text encoder, decoder and all that is done once.
        full, cached: a step that computes the whole U-Net, and one that reuses its deep part.
        error: largest relative difference of a recorded call from what these add up to.
    """

    rest: float
    full: float
    cached: float
    error: float

    def seconds(self, steps: int, interval: int, guided: bool) -> float:
        """Of a call with a cache of this interval; 1: without one."""
        whole = -(-steps // interval)
        share = 1.0 if guided else HALF
        return self.rest + share * (whole * self.full + (steps - whole) * self.cached)


def _calls(records: Sequence[SpeedRecord]) -> Iterator[tuple[int, int, float]]:
    """Full steps, cached steps and seconds of each recorded call with such a cache or none."""
    for record in records:
        steps = record.configuration.steps
        for row in record.rows:
            cache = row.parameters.get("deepcache", {"cache_branch_id": 0, "cache_interval": 1})
            others = set(row.parameters) - {"deepcache"}
            if row.timing is None or others or cache["cache_branch_id"] != 0:
                continue
            whole = -(-steps // int(cache["cache_interval"]))
            yield whole, steps - whole, statistics.median(row.timing.accelerated)


def parts(records: Sequence[SpeedRecord]) -> Parts:
    """Of one model, by least squares of the relative errors."""
    calls = list(_calls(records))
    terms = np.array([[1, whole, cached] for whole, cached, _ in calls], dtype=float)
    seconds = np.array([taken for *_, taken in calls])
    found, *_ = np.linalg.lstsq(terms / seconds[:, None], np.ones(len(calls)), rcond=None)
    rest, full, cached = map(float, found)
    return Parts(rest, full, cached, float(np.abs(terms @ found / seconds - 1).max()))


def page() -> str:
    """The page's text."""
    records = read_speeds(DATA)
    known = {
        model: parts([each for each in records if each.configuration.model == model])
        for model in MODELS
    }
    split = [
        [
            model,
            *(f"{1000 * each:.0f}" for each in (one.rest, one.full, one.cached)),
            f"{one.error:.1%}",
        ]
        for model, one in known.items()
    ]
    rows = [
        [model, str(steps), "on" if guided else "off", *_speedups(one, steps, guided)]
        for model, one in known.items()
        for guided in (False, True)
        for steps in STEPS
    ]
    where = records[0].environment
    return (
        "\n\n".join(
            [
                "# What can be gained in few steps",
                "<!-- Made by `python -m benchmarks.few_steps`. -->",
                NOTES.read_text(encoding="utf-8").strip(),
                "## Time of a call",
                table(["model", "rest, ms", "full step, ms", "cached step, ms", "error"], split),
                "Batches of 8 images (SD1.5) and 4 (SDXL), float16.[^how] `error` is the largest "
                "difference of a recorded call from the sum of its steps.",
                "## Speedup of DeepCache, predicted",
                table(
                    ["model", "steps", "guidance", *(f"interval {each}" for each in INTERVALS)],
                    rows,
                    left=3,
                ),
                "[^how]: `python -m benchmarks.few_steps`, from calls of 20 and 50 steps with DDIM "
                f"on one {where.device} ([recorded](h100.md)). Branch 0. Without guidance a step "
                f"is taken to cost half. {records[0].date[:10]}.",
            ]
        )
        + "\n"
    )


def _speedups(one: Parts, steps: int, guided: bool) -> list[str]:
    plain = one.seconds(steps, 1, guided)
    return [
        f"{plain / one.seconds(steps, interval, guided):.2f}x" if interval <= steps else ""
        for interval in INTERVALS
    ]


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
