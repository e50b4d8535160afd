"""A journal of everything that a search found, which is never forgotten.

A search is decided anew by each experiment: for the accelerators, the loss limit and the prompts
that it asks for. What was found before, for others, is kept here until somebody deletes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import Limit
from diffaccel.plugins.accelerators import sources
from diffaccel.search.records import Found, Search
from diffaccel.store import journal
from diffaccel.store.journal import Journal, Line
from diffaccel.store.jsonio import READS, RecordError, digest, parse, read_record

log = logging.getLogger(__name__)

FOLDER = "found"
"""Of the journals."""


@dataclass(frozen=True)
class Kept:
    """What was found, and what it was measured with.

    Args:
        provenance: in words, by hash and by version; empty where nobody knows any more.
        sources: hashes of the source of its accelerators.
    """

    found: Found
    provenance: Mapping[str, Any]
    sources: Mapping[str, str]

    @property
    def cell(self) -> Cell:
        return self.found.cell.cell

    @property
    def baseline(self) -> str:
        """Digest of all that its baseline was measured with."""
        return self.found.cell.baseline

    @property
    def digest(self) -> str:
        """Of all that it was measured with."""
        return digest([self.baseline, dict(self.sources)])

    def holds(self, baseline: Baseline) -> bool:
        """Whether it would be found now, beside a baseline."""
        return baseline.is_named(self.baseline) and self.sources == _sources(self.found)


def _sources(found: Found) -> Mapping[str, str]:
    return sources({name: {} for name in found.cell.cell.accelerators})


def read(journals: Path, configuration: str = "*") -> list[Kept]:
    """Everything that was ever found, or that of one configuration, by its slug; the newest of each
    configuration last, by the order of lines: a clock may jump."""
    paths = sorted((journals / FOLDER).glob(f"{configuration}.jsonl"))
    return [each for path in paths for each in _lines(path)]


def _lines(path: Path) -> Iterator[Kept]:
    provenance: dict[str, Mapping[str, Any]] = {}
    for line in journal.lines(path):
        if not isinstance(line, Line) or line.schema not in READS:
            log.warning("left out: a line of %s that is not whole, or of another version", path)
        elif line.provenance is not None:
            provenance[line.digest] = line.provenance
        else:
            try:
                found = parse(Found, line.measurement, f"{path}:{line.number}")
                yield Kept(found, provenance.get(line.digest, {}), line.of)
            except RecordError as error:
                log.warning("left out: %s", error)


def keep(journals: Path, search: Search, baseline: Baseline | None) -> None:
    """Notes what a search found, unless that is what was found last.

    Args:
        baseline: that it was decided beside; None where it is not there any more.
    """
    if search.configuration is None:
        return
    path = journals / FOLDER / f"{search.configuration.slug}.jsonl"
    with journal.writing(path):
        before = read(journals, search.configuration.slug)
        last = {_asked(each.found): each.found for each in before}
        for found in _found(search):
            same = last.get(_asked(found))
            if same is None or replace(same, date=found.date) != found:
                whole = found.cell.baseline
                known = baseline is not None and baseline.is_named(whole)
                provenance = baseline.provenance() if baseline is not None and known else {}
                Journal(path, whole, Found, provenance, _sources).append(found)


def _asked(found: Found) -> tuple[Cell, float, tuple[Limit, ...]]:
    return found.cell.cell, found.cell.loss_limit, found.cell.search.limits


def _found(search: Search) -> Iterator[Found]:
    from diffaccel.store.jsonio import today

    for cell in search.cells:
        met = [
            each
            for each in search.answers
            if each.task.cell == cell.cell and each.chosen is not None
        ]
        if cell.bound is not None or met:
            yield Found(cell, met, today())


def keep_all(folder: Path) -> None:
    """Notes what all records of a platform tell, those that were brought from elsewhere, too."""
    for path in sorted((folder / "search").glob("*.json")):
        try:
            search = read_record(Search, path)
        except RecordError as error:
            log.warning("left out: %s", error)
            continue
        try:
            baseline = read_record(Baseline, folder / "baseline" / path.name)
        except RecordError:
            baseline = None
        keep(folder / "journal", search, baseline)
