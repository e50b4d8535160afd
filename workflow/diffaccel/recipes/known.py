"""What the records say of a configuration: every measured candidate that may be an answer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.search import found
from diffaccel.search.records import Answer, CellResult, Found, Search
from diffaccel.store.jsonio import digest, read_record

Names = tuple[str, ...]
"""Short names of accelerators, sorted."""


@dataclass(frozen=True)
class Option:
    """A measurement, with the loss that the search compares with limits."""

    measured: Measurement
    loss: float

    @property
    def speedup(self) -> float:
        return self.measured.speedup


@dataclass(frozen=True)
class Known:
    """The records of a configuration that was searched."""

    baseline: Baseline
    search: Search
    before: Mapping[Names, Found] = field(default_factory=dict)
    """What was found of cells that the last search did not ask for."""
    fits: Callable[[Measurement], bool] = field(default=lambda measured: True)
    """Whether a measurement may be an option, e.g. for the memory that it takes."""

    @classmethod
    def read(cls, folder: Path, configuration: Configuration) -> Known:
        """Those in a platform's folder of results.

        Raises:
            RecordError: one is missing or malformed.
        """
        name = f"{configuration.slug}.json"
        search = read_record(Search, folder / "search" / name)
        baseline = read_record(Baseline, folder / "baseline" / name)
        kept = found.read(folder / "journal", configuration.slug)
        asked = {each.cell.accelerators for each in search.cells}
        limits = {each.search.limits for each in search.cells}
        last = {
            each.cell.accelerators: each.found
            for each in kept
            if each.holds(baseline)
            and each.cell.accelerators not in asked
            and each.found.cell.search.limits in limits
        }
        return cls(baseline, search, last)

    @cached_property
    def cells(self) -> dict[Names, CellResult]:
        """What was searched beside this baseline, and not beside one that was there before."""
        own = self.baseline
        last = {c.cell.accelerators: c for c in self.search.cells if own.is_named(c.baseline)}
        return {**last, **{names: each.cell for names, each in self.before.items()}}

    @cached_property
    def every(self) -> dict[Names, CellResult]:
        """The cells, and last the one that all are compared with."""
        fewer_steps = self.search.fewer_steps
        if fewer_steps is None or self.fewer_steps_names in self.cells:
            return self.cells
        return {**self.cells, self.fewer_steps_names: fewer_steps}

    def timed(self, names: Names, limit: float | None = None) -> list[Option]:
        """Of one of `every`."""
        if names in self.cells:
            return self.options(names, limit)
        return self.fewer_steps_options(limit)

    @property
    def loss_limit(self) -> float:
        """That the configuration was searched with."""
        return self.search.cells[0].loss_limit

    def options(self, names: Names, limit: float | None = None) -> list[Option]:
        """Of one cell; none where it was not searched or was refused. What was chosen by the upper
        end of its loss's interval need not be in the front.

        Args:
            limit: the loss limit, if it is not the one that was searched with.
        """
        if names not in self.cells:
            return []
        cell = self.cells[names]
        # What was chosen by limits of its own says nothing of those of the cell.
        answers = [each.chosen for each in self.answers(names) if each.task.limits is None]
        rows = [row for row in (*answers, cell.bound, *cell.front) if row is not None]
        # What was timed again since it was an answer is in the front as it is known now.
        last = {digest(row.parameters): row for row in rows}
        return self._options(last.values(), cell, limit)

    def answers(self, names: Names) -> list[Answer]:
        """Those to the tasks of one of `every`."""
        before, cell = self.before.get(names), self.every[names].cell
        every = before.answers if before else self.search.answers
        return [each for each in every if each.task.cell == cell]

    @property
    def fewer_steps_names(self) -> Names:
        """Of the cell that all are compared with; none where nothing is."""
        return self.search.fewer_steps.cell.accelerators if self.search.fewer_steps else ()

    def fewer_steps_options(self, limit: float | None = None) -> list[Option]:
        """What was timed of it.

        Args:
            limit: as of `options`.
        """
        fewer_steps = self.search.fewer_steps
        if fewer_steps is None or not self.baseline.is_named(fewer_steps.baseline):
            return []
        rows = {
            digest(row.parameters): row
            for row in (fewer_steps.bound, *fewer_steps.front)
            if row is not None
        }
        return self._options(rows.values(), fewer_steps, limit)

    def _options(
        self, rows: Iterable[Measurement], cell: CellResult, limit: float | None
    ) -> list[Option]:
        limit = cell.loss_limit if limit is None else limit
        return [Option(row, cell.search.decisive(row, limit)) for row in rows if self.fits(row)]

    def latency(self, measured: Measurement) -> float:
        """Seconds of a call with the baseline's batch size, the median; of what has no timing of
        its own, by its speedup."""
        timing, plain = measured.timing, self.baseline.seconds
        if timing is not None:
            return statistics.median(timing.accelerated)
        return statistics.median(plain) / measured.speedup if measured.speedup else math.inf


def searched(results: Path) -> list[tuple[str, Configuration]]:
    """Platform and configuration of all that was searched, from the names of files alone."""
    found = []
    for path in sorted(results.glob("*/search/*_*_*.json")):
        if (configuration := Configuration.named(path.stem)) is not None:
            found.append((path.parts[-3], configuration))
    return found
