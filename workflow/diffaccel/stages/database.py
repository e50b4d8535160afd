"""What was found, which is never forgotten: a journal of it, and the two stores made from that.

A search is decided anew by each experiment: for the accelerators, the loss limit and the prompts
that it asks for. What was found before, for others, is kept here until somebody deletes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffaccel import journal
from diffaccel.grid import Cell
from diffaccel.journal import Journal, Line
from diffaccel.jsonio import (
    READS,
    SCHEMA,
    RecordError,
    digest,
    dumps,
    parse,
    read_record,
    write_output,
)
from diffaccel.keys import sources
from diffaccel.records import Baseline, Found, Measurement, Search

# What takes long to import is imported where it is needed: `diffaccel recommend` only reads.
log = logging.getLogger(__name__)

FOLDER = "found"
"""Of the journals."""
BOUNDS, PARAMS = "speedup_bounds.json", "search_params.json"


@dataclass(frozen=True)
class Kept:
    """What was found, and what it was measured with.

    Args:
        about: in words, by hash and by version; empty where nobody knows any more.
        sources: hashes of the source of its accelerators.
    """

    found: Found
    about: Mapping[str, Any]
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


def read(journals: Path, setup: str = "*") -> list[Kept]:
    """Everything that was ever found, or that of one setup, by its slug; the newest of each setup
    last, by the order of lines: a clock may jump."""
    paths = sorted((journals / FOLDER).glob(f"{setup}.jsonl"))
    return [each for path in paths for each in _lines(path)]


def _lines(path: Path) -> Iterator[Kept]:
    about: dict[str, Mapping[str, Any]] = {}
    for line in journal.lines(path):
        if not isinstance(line, Line) or line.schema not in READS:
            log.warning("left out: a line of %s that is not whole, or of another version", path)
        elif line.about is not None:
            about[line.digest] = line.about
        else:
            try:
                found = parse(Found, line.measurement, f"{path}:{line.number}")
                yield Kept(found, about.get(line.digest, {}), line.of)
            except RecordError as error:
                log.warning("left out: %s", error)


def keep(journals: Path, search: Search, baseline: Baseline | None) -> None:
    """Notes what a search found, unless that is what was found last.

    Args:
        baseline: that it was decided beside; None where it is not there any more.
    """
    if search.setup is None:
        return
    path = journals / FOLDER / f"{search.setup.slug}.jsonl"
    with journal.writing(path):
        before = read(journals, search.setup.slug)
        last = {(each.cell, each.found.cell.loss_limit): each.found for each in before}
        for found in _found(search):
            same = last.get((found.cell.cell, found.cell.loss_limit))
            if same is None or replace(same, date=found.date) != found:
                whole = found.cell.baseline
                known = baseline is not None and baseline.is_named(whole)
                about = baseline.about() if baseline is not None and known else {}
                Journal(path, whole, Found, about, _sources).append(found)


def _found(search: Search) -> Iterator[Found]:
    from diffaccel.measure import today

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


# ---- the two stores ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """What stands under a key.

    Args:
        same: what an entry must share with another one to take its place.
    """

    key: str
    same: str
    value: Mapping[str, Any]


def write(folder: Path) -> None:
    """Both stores of a platform."""
    bounds(folder, folder / BOUNDS)
    params(folder, folder / PARAMS)


def bounds(folder: Path, out: Path) -> None:
    """`speedup_bounds.json`: the largest speedup of every cell that has one, by loss limit."""
    _write(folder, out, _bound)


def params(folder: Path, out: Path) -> None:
    """`search_params.json`: every setting that was found, under its measured speedup."""
    _write(folder, out, _params)


def _write(folder: Path, out: Path, entries: Any) -> None:
    keep_all(folder)
    kept = read(folder / "journal")
    write_output(out, dumps(_table(entry for each in kept for entry in entries(each))))


def _table(entries: Iterable[_Entry]) -> dict[str, Any]:
    """Under each key the newest, and in its ``others`` what was measured with anything else, the
    newest first."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        under = found.setdefault(entry.key, {})
        under.pop(entry.same, None)
        under[entry.same] = entry.value
    table = {}
    for key, under in found.items():
        newest, *others = reversed(under.values())
        table[key] = {**newest, **({"others": others} if others else {})}
    return table


def _bound(kept: Kept) -> Iterator[_Entry]:
    from diffaccel.stages.search import stored_bound

    known = kept.found.cell
    if known.bound is not None:
        value = {
            "max_speedup": stored_bound(known),
            "measured_speedup": round(known.bound.speedup, 4),
            **_described(kept, known.bound),
        }
        yield _Entry(kept.cell.key("upbound_speedup", known.loss_limit), kept.digest, value)


def _params(kept: Kept) -> Iterator[_Entry]:
    """Of two settings of the same rounded speedup the one with less loss comes last."""
    known = kept.found.cell
    rows = [(known.loss_limit, known.bound)] if known.bound is not None else []
    rows += [(each.task.max_loss, each.chosen) for each in kept.found.answers if each.chosen]
    for limit, row in sorted(rows, key=lambda pair: -pair[1].loss):
        key = kept.cell.key(str(round(row.speedup, 2)), limit)
        value = {"speedup": row.speedup, **_described(kept, row)}
        yield _Entry(key, digest([kept.digest, row.setting]), value)


def _described(kept: Kept, row: Measurement) -> dict[str, Any]:
    return {
        "params": row.setting,
        "score_loss": row.loss,
        "score_loss_interval": list(row.loss_interval),
        "scores": row.means,
        "cell": kept.cell.slug,
        "date": row.date,
        "schema": SCHEMA,
        "measured_with": {"prompts": row.prompts, **_with(kept.about), "digest": kept.digest},
    }


def _with(about: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured with, in words."""
    spec, options, where = (about.get(name, {}) for name in ("spec", "options", "environment"))
    named: Sequence[tuple[Mapping[str, Any], Sequence[str]]] = (
        (spec, ("source", "height", "width", "guidance_scale", "batch_size", "scorer")),
        (options, ("seed",)),
        (where, ("device", "driver", "dtype", "attention", "threads", "versions")),
    )
    return {name: of[name] for of, names in named for name in names if name in of}
