"""How far is a timing off, how far does it say it is, and how often do two of the same contradict
each other?

Pairs of calls are made up: the logarithm of each one's ratio is normally distributed about the true
speedup. They are summarised as measured ones are. Run by ``python -m benchmarks.timings``.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from diffaccel.evaluation.pairs import timing_of, want_more
from diffaccel.evaluation.records import Timing
from diffaccel.experiment.options import MeasureOptions
from diffaccel.run.merging import contradict

COUNTS = (2, 3, 4, 6, 12, 24)
NOISES = (0.01, 0.03, 0.1)
TIMINGS = 1000
SEARCHED = MeasureOptions()
"""A search takes more pairs while they differ too much."""


@dataclass(frozen=True)
class Simulated:
    """What many timings of a speedup of 1 tell.

    Args:
        pairs: of a timing, on average.
        off: how far they are truly off, relative: the root of the mean square.
        said: their error as they say it, on average.
        contradict: share of couples of timings that contradict each other.
    """

    pairs: float
    off: float
    said: float
    contradict: float


def simulated(count: int | None, noise: float, timings: int, seed: int = 0) -> Simulated:
    """Makes up timings.

    Args:
        count: pairs of each; None: as many as a search takes.
        noise: standard deviation of the logarithm of a pair's ratio.
    """
    random = np.random.default_rng(seed)
    made = [_timing(count, noise, random) for _ in range(timings)]
    return Simulated(
        pairs=float(np.mean([len(each.baseline) for each in made])),
        off=math.sqrt(float(np.mean([math.log(each.speedup) ** 2 for each in made]))),
        said=float(np.mean([each.error for each in made])),
        contradict=float(np.mean(list(map(contradict, made, [*made[1:], made[0]])))),
    )


def _timing(count: int | None, noise: float, random: np.random.Generator) -> Timing:
    pairs: list[tuple[float, float]] = []
    while len(pairs) < count if count else want_more(pairs, SEARCHED):
        pairs.append((float(np.exp(random.normal(0, noise))), 1.0))
    return timing_of(pairs)


def show(timings: int) -> Table:
    """The table."""
    view = Table(title=f"Errors of {timings} timings each", title_justify="left", box=None)
    for name in ("pairs", "noise of\na pair", "truly\noff", "said", "said /\ntruly", "contradict"):
        view.add_column(name, justify="right")
    for noise in NOISES:
        for count in (*COUNTS, None):
            found = simulated(count, noise, timings)
            view.add_row(
                str(count) if count else f"{SEARCHED.pairs} to {SEARCHED.max_pairs}",
                f"{noise:.0%}",
                f"{found.off:.2%}",
                f"{found.said:.2%}",
                f"{found.said / found.off:.2f}",
                f"{found.contradict:.1%}",
            )
    return view


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timings", type=int, default=TIMINGS, help="of each row")
    Console(width=90).print(show(parser.parse_args().timings))


if __name__ == "__main__":
    main()
