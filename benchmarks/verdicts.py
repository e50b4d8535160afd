"""How often is a verdict on a loss wrong, how many prompts does it take, and does the interval of
a loss hold the true loss as often as it says?

Takes the results of a platform, or the tables on which searches are replayed. Each candidate that
was evaluated with all prompts is a population: pairs of scores are sampled from it with
replacement, and analysed as a search does. Once as they are, where the truth is the loss over the
whole population; and once moved so that the loss is the limit itself, where whatever is said to be
clear is wrong. Run by ``python -m benchmarks.results``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.search import tables
from diffaccel.evaluation import keys
from diffaccel.evaluation.records import Baseline
from diffaccel.evaluation.scores import loss_interval, loss_of
from diffaccel.evaluation.sequential import InterimAnalyses
from diffaccel.plugins.metrics import SCORE
from diffaccel.store.jsonio import read_record

TABLES = Path(__file__).parent / "search" / "nvidia-h100-80gb-hbm3"
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Pairs = tuple[Floats, Floats]
LIMIT = 0.02
PLANS = ((16, 16), (16, 32), (16, 64), (32, 32), (32, 64))
"""Usual and most prompts."""
SAMPLES = (8, 16, 32)
"""Prompts of an interval."""
CONFIDENCE = 0.95
NEAR = 0.005
"""How near to the limit a loss is that 32 prompts can hardly tell from it."""


def populations(folder: Path) -> Iterator[Pairs]:
    """Scores of the baseline and of each candidate, over the same prompts."""
    return of_tables(folder) if tables.tables(folder) else of_results(folder)


def of_tables(folder: Path) -> Iterator[Pairs]:
    """Those of all candidates in a folder's tables."""
    for path in tables.tables(folder):
        table = tables.read(path)
        plain = np.array(table.baseline.scores[SCORE])
        for row in itertools.chain.from_iterable(table.rows.values()):
            if row.failure is None:
                yield plain, np.array(row.scores)


def of_results(results: Path) -> Iterator[Pairs]:
    """Those of all candidates that searches drew on a platform."""
    for path in sorted(results.glob("baseline/*.json")):
        baseline = read_record(Baseline, path)
        plain = np.array(baseline.scores[SCORE])
        slug = baseline.configuration.slug
        for path in sorted(results.glob(f"journal/evaluations/{slug}_*.jsonl")):
            for evaluation in keys.evaluated(results / "journal", baseline, path.stem).rows():
                if evaluation.failure is None and evaluation.prompts == len(plain):
                    yield plain, np.array(evaluation.scores[SCORE])


@dataclass
class Count:
    """What was said of all populations."""

    looked: int = 0
    below: int = 0
    above: int = 0
    wrong: int = 0
    wrong_near: int = 0
    prompts: int = 0


def analysis(
    pairs: Pairs, analyses: InterimAnalyses, true_loss: float, chosen: Indices, count: Count
) -> None:
    """Looks at one population until it is clear, or there are no more prompts."""
    plain, accelerated = (each[chosen].tolist() for each in pairs)
    said, at = None, 0
    for at in analyses.at:
        said = analyses.below(plain, accelerated[:at], LIMIT)
        if said is not None:
            break
    count.looked += 1
    count.prompts += at
    count.below += said is True
    count.above += said is False
    wrong = said is not None and said != (true_loss < LIMIT)
    count.wrong += wrong
    count.wrong_near += wrong and abs(true_loss - LIMIT) < NEAR


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=TABLES,
        help="of a platform's results, or of its tables (%(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=8, help="prompts at the first interim analysis"
    )
    args = parser.parse_args(argv)
    known = [pairs for pairs in populations(args.folder) if np.ptp(pairs[1] - pairs[0]) > 0]
    if not known:
        parser.error(f"{args.folder} has neither tables nor evaluations with all prompts")
    console = Console(width=120)
    console.print(verdicts(known, args.batch))
    console.print(coverage(known))


def verdicts(known: Sequence[Pairs], batch: int) -> Table:
    """What is said of the populations, and how much of it is wrong."""
    table = Table(
        title=f"{len(known)} candidates, limit {LIMIT:.0%}", box=None, title_justify="left"
    )
    for name in ("prompts", "at the limit: below", "not below", "as they are: clear", "wrong"):
        table.add_column(name, justify="right")
    table.add_column(f"wrong beyond {NEAR:.1%} of the limit", justify="right")
    table.add_column("prompts evaluated", justify="right")
    for usual, most in PLANS:
        analyses, random = InterimAnalyses(batch, usual, most, CONFIDENCE), np.random.default_rng(0)
        null, real = Count(), Count()
        for plain, accelerated in known:
            chosen = random.integers(0, len(plain), most)
            moved = accelerated - (accelerated - (1 - LIMIT) * plain).mean()
            analysis((plain, moved), analyses, LIMIT, chosen, null)
            true_loss = loss_of(plain.tolist(), accelerated.tolist())
            analysis((plain, accelerated), analyses, true_loss, chosen, real)
        table.add_row(
            f"{usual} to {most}",
            f"{null.below / null.looked:.1%}",
            f"{null.above / null.looked:.1%}",
            f"{(real.below + real.above) / real.looked:.0%}",
            f"{real.wrong / real.looked:.2%}",
            f"{(real.wrong - real.wrong_near) / real.looked:.2%}",
            f"{real.prompts / real.looked:.1f}",
        )
    return table


def coverage(known: Sequence[Pairs]) -> Table:
    """How often the interval of a loss holds the true one."""
    table = Table(
        title=f"The {CONFIDENCE:.0%} interval of the loss", box=None, title_justify="left"
    )
    for name in ("prompts", "holds it", "it is below", "it is above", "width, median"):
        table.add_column(name, justify="right")
    for count in SAMPLES:
        random, below, above, widths = np.random.default_rng(0), 0, 0, []
        for plain, accelerated in known:
            chosen = random.integers(0, len(plain), count)
            truth = loss_of(plain.tolist(), accelerated.tolist())
            sampled = plain[chosen].tolist(), accelerated[chosen].tolist()
            low, high = loss_interval(*sampled, CONFIDENCE)
            below, above = below + (truth < low), above + (truth > high)
            widths.append(high - low)
        missed = below + above
        table.add_row(
            str(count),
            *(f"{each / len(known):.1%}" for each in (len(known) - missed, below, above)),
            f"{float(np.median(widths)):.1%}",
        )
    return table


if __name__ == "__main__":
    main()
