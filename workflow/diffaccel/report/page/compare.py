"""Two runs side by side: what each found of the same configurations, and where they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.recipes import advice
from diffaccel.recipes.known import Known, Names
from diffaccel.search.records import Search
from diffaccel.store.jsonio import read_record

SURELY = 2.0
"""Standard errors by which speedups differ before it is said that they do."""


@dataclass(frozen=True)
class Side:
    """What one run found of a cell.

    Args:
        bound: the fastest within the limit, if any.
        clear: whether its prompts tell that it is within.
        use: the fastest that is clearly within it.
    """

    bound: Measurement | None
    clear: bool
    use: Measurement | None


@dataclass(frozen=True)
class Row:
    """A cell in both runs; None where a run does not have it."""

    accelerators: str
    first: Side | None
    second: Side | None

    @property
    def differ(self) -> bool:
        """Whether what is to be used is faster in one of them, by more than the timings' errors."""
        used = [side.use for side in (self.first, self.second) if side is not None]
        if len(used) < 2 or None in used:
            return len(used) == 2 and used[0] is not used[1]
        one, other = (each for each in used if each is not None)
        errors = [each.timing.error if each.timing else 0.0 for each in (one, other)]
        off = abs(math.log(one.speedup / other.speedup))
        return off > max(0.005, SURELY * math.hypot(*errors))


@dataclass(frozen=True)
class Pair:
    """A configuration that either run has.

    Args:
        seconds: of an image by the baseline pipeline; None where a run does not have it.
        limits: of the loss.
    """

    configuration: Configuration
    seconds: tuple[float | None, float | None]
    limits: tuple[float | None, float | None]
    rows: list[Row]


@dataclass(frozen=True)
class Run:
    """A run, by its folder."""

    folder: Path
    known: dict[Configuration, Known]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Raises InputError where nothing was searched there, or a record cannot be read."""
        known = {}
        for path in sorted(folder.glob("search/*.json")):
            search = read_record(Search, path)
            if search.configuration is not None:
                baseline = read_record(Baseline, folder / "baseline" / path.name)
                known[search.configuration] = Known(baseline, search)
        if not known:
            raise InputError(f"{folder} has no search to compare: name folders such as results/cpu")
        return cls(folder, known)

    @property
    def device(self) -> str:
        """The hardware, as its first baseline names it."""
        return next(iter(self.known.values())).baseline.environment.device

    @property
    def date(self) -> str:
        """Of its newest baseline."""
        return max(each.baseline.date for each in self.known.values())


def pairs(first: Run, second: Run) -> list[Pair]:
    """Every configuration of either, the first's first."""
    return [
        _pair(configuration, first.known.get(configuration), second.known.get(configuration))
        for configuration in dict.fromkeys([*first.known, *second.known])
    ]


def _pair(configuration: Configuration, first: Known | None, second: Known | None) -> Pair:
    both = (first, second)
    names = dict.fromkeys(name for known in both if known for name in known.every)
    seconds = tuple(known.baseline.seconds_per_image if known else None for known in both)
    limits = tuple(known.loss_limit if known else None for known in both)
    rows = [
        Row(combination(name).title, *(_side(known, name) if known else None for known in both))
        for name in names
    ]
    return Pair(configuration, (seconds[0], seconds[1]), (limits[0], limits[1]), rows)


def _side(known: Known, names: Names) -> Side | None:
    cell = known.every.get(names)
    if cell is None:
        return None
    use = advice.fastest_clear(known.baseline, known.timed(names), known.loss_limit)
    return Side(cell.bound, cell.clear, use)


def shown(side: Side | None) -> Sequence[str]:
    """What to use of a cell in words, its parameters, and the bound where that is not clear."""
    if side is None:
        return ["not searched"]
    if side.use is None:
        found = ["nothing faster is clearly within the limit"]
    else:
        error = side.use.timing.error if side.use.timing else math.inf
        about = f" ±{error:.1%}" if math.isfinite(error) else ""
        found = [
            f"{side.use.speedup:.2f}x{about}, loss {side.use.loss:.1%}",
            in_words(side.use.parameters),
        ]
    if side.bound is not None and not side.clear:
        found.append(f"not clear yet: {side.bound.speedup:.2f}x, loss {side.bound.loss:.1%}")
    return found
