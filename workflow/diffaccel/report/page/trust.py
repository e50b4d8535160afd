"""How far the numbers of the page can be trusted: counts and errors over all configurations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diffaccel.evaluation.records import Baseline, Environment, Measurement
from diffaccel.plugins.metrics import SCORE
from diffaccel.recipes.known import Known
from diffaccel.report.table import share_interval
from diffaccel.stages.records import Verification
from diffaccel.store.jsonio import digest


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    count: int

    @classmethod
    def of(cls, flags: Iterable[bool]) -> Share:
        every = list(flags)
        return cls(sum(every), len(every))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the share."""
        return share_interval(self.hits, self.count)


@dataclass(frozen=True)
class Trust:
    """How far the numbers can be trusted.

    Args:
        quiet: timings whose pairs agreed.
        error: median of the speedups' relative standard errors; None where nothing was timed.
        worst: the largest of them.
        clear: bounds of which the prompts tell that they keep the limit.
        asked: scripts that are as fast as was asked, and lose no more than they may.
        found: the same of those that are as fast as when they were found.
        undecided: of how many others the timings do not tell each of the two.
        heldout: of these scripts' losses on unseen prompts, those within the limit.
        scores: per configuration, the baseline's mean score, and that with each other's prompts.
        prompts: the prompts, by model; the first configuration's.
        warnings: what a reader should know of a baseline, with the names of its configurations.
    """

    environments: list[Environment]
    quiet: Share
    pairs: Share
    error: float | None
    worst: float | None
    evaluated: tuple[int, int]
    confidence: float
    clear: Share
    asked: Share
    found: Share
    undecided: tuple[int, int]
    heldout: Share
    scores: dict[str, tuple[float, float]]
    prompts: dict[str, list[str]]
    seeds: list[int]
    warnings: dict[str, list[str]]


def timed_candidates(known: Known) -> list[Measurement]:
    """Every timed candidate in the records of a configuration, once."""
    cells = [*known.search.cells, *([known.search.fewer_steps] if known.search.fewer_steps else [])]
    rows = [row for cell in cells for row in (*cell.front, cell.bound) if row is not None]
    rows += [answer.chosen for answer in known.search.answers if answer.chosen is not None]
    return [*{digest(row.parameters): row for row in rows}.values()]


def trust(known: Sequence[Known], verifications: Sequence[Verification]) -> Trust:
    """The counts and errors of these configurations and verifications."""
    rows = [row for one in known for row in timed_candidates(one)]
    timings = [row.timing for row in rows if row.timing is not None]
    cells = [cell for one in known for cell in one.search.cells]
    baselines = [one.baseline for one in known]
    found = [result for verification in verifications for result in verification.results]
    errors = [timing.error for timing in timings if math.isfinite(timing.error)]
    counts = [row.prompts for row in rows if row.scores]
    pairs = sum(len(each.baseline) for each in timings)
    return Trust(
        environments=_distinct(baselines),
        quiet=Share.of(not row.warnings for row in rows if row.timing is not None),
        pairs=Share(sum(each.counted for each in timings), pairs),
        error=statistics.median(errors) if errors else None,
        worst=max(errors, default=None),
        evaluated=(min(counts, default=0), max(counts, default=0)),
        confidence=max((each.options.confidence for each in baselines), default=0.95),
        clear=Share.of(cell.clear for cell in cells if cell.bound is not None),
        asked=Share.of(result.outcome == "met" for result in found),
        found=Share.of(result.kept == "met" for result in found),
        undecided=(
            sum(result.outcome == "undecided" for result in found),
            sum(result.kept == "undecided" for result in found),
        ),
        heldout=Share.of(each.heldout.ok for each in found if each.heldout is not None),
        scores={
            each.configuration.slug: (statistics.mean(each.scores[SCORE]), each.shuffled_score)
            for each in baselines
        },
        prompts={each.spec.name: each.texts for each in reversed(baselines)},
        seeds=sorted({each.options.seed for each in baselines}),
        warnings=_warnings(baselines),
    )


def _warnings(baselines: Sequence[Baseline]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in baselines:
        for said in each.warnings:
            found.setdefault(said, []).append(each.configuration.slug)
    return found


def _distinct(baselines: Sequence[Baseline]) -> list[Environment]:
    return [*{digest(str(each.environment)): each.environment for each in baselines}.values()]
