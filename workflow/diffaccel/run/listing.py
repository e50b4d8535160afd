"""What was measured in the stores: rows of the journals, to list, to export and to check."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.evaluation import keys
from diffaccel.evaluation.records import Baseline, Evaluation, TimingRow
from diffaccel.run.stores import JOURNALS_BEFORE, KINDS, ROW_KINDS, damaged
from diffaccel.search.records import Search
from diffaccel.store.journal import Line, holds, lines
from diffaccel.store.jsonio import (
    READS,
    RecordError,
    listed,
    parse,
    read_record,
)

log = logging.getLogger(__name__)


def platforms(results: Path) -> list[Path]:
    """The stores in a folder of results; itself, where it is one.

    Raises:
        InputError: there is none.
    """

    def is_store(path: Path) -> bool:
        return any((path / name).is_dir() for name in ("journal", "baseline", "speed"))

    if is_store(results):
        return [results]
    found = [path for path in sorted(results.glob("*")) if is_store(path)]
    if not found:
        raise InputError(f"{results}: no results of any platform are there")
    return found


@dataclass(frozen=True)
class Row:
    """What was measured: a line of a journal, with what it is of.

    Args:
        kind: the journal's folder, one of `ROW_KINDS`.
        provenance: what its digest is of; empty where nobody knows any more.
        current: whether it is of the baseline that is there now, and of all else as it is now.
    """

    store: Path
    path: Path
    kind: str
    line: Line
    provenance: Mapping[str, Any]
    current: bool

    @property
    def measured(self) -> Mapping[str, Any]:
        """What is evaluated, timed, ..., as JSON."""
        assert self.line.measurement is not None
        found: Mapping[str, Any] = self.line.measurement.get("row", self.line.measurement)
        return found

    @property
    def configuration(self) -> str:
        """Slug of what was measured; ``?`` where nobody knows any more."""
        configuration = self.provenance.get("configuration")
        return (
            f"{configuration['model']}_{configuration['scheduler']}_{configuration['steps']}"
            if configuration
            else "?"
        )


@dataclass(frozen=True)
class Store:
    """The journals of a platform.

    Args:
        folder: ``results/<platform>``.
    """

    folder: Path

    @property
    def journals(self) -> list[Path]:
        return sorted(self.folder.glob("journal/*/*.jsonl"))

    @cached_property
    def baselines(self) -> dict[str, Baseline]:
        """Those that can be read, by digest."""
        found = {}
        for path in sorted((self.folder / "baseline").glob("*.json")):
            try:
                record = read_record(Baseline, path)
                found[record.digest] = record
            except RecordError as error:
                log.warning("left out: %s", error)
        return found

    def broken(self) -> Iterator[str]:
        """Lines of journals that are not whole, each as where and why."""
        for path in self.journals:
            for line in lines(path):
                if not isinstance(line, Line):
                    yield f"{path}:{line[0]}: {line[1]}"
                elif line.schema not in READS:
                    known = f"this version reads {listed(READS)}"
                    yield f"{path}:{line.number}: schema {line.schema}, {known}"

    def rows(self, kinds: Sequence[str] = ()) -> Iterator[Row]:
        """Everything that was measured, of these kinds or of all."""
        provenances = {digest: each.provenance() for digest, each in self.baselines.items()}
        for path in self.journals:
            kind = JOURNALS_BEFORE.get(path.parent.name, path.parent.name)
            own = dict(provenances)
            if kind not in (kinds or ROW_KINDS):
                continue
            for line in lines(path):
                if not isinstance(line, Line) or line.schema not in READS:
                    continue
                if line.provenance is not None:
                    own[line.digest] = dict(line.provenance)
                elif line.measurement is not None:
                    # What is timed is kept by what the configurations of a model share.
                    digest = line.measurement.get("baseline", line.digest)
                    provenance = own.get(digest) or own.get(line.digest, {})
                    current = self._is_current(kind, line, digest)
                    yield Row(self.folder, path, kind, line, provenance, current)

    def _is_current(self, kind: str, line: Line, digest: str) -> bool:
        """Whether a search would use it now."""
        baseline = self.baselines.get(digest)
        if baseline is None or line.measurement is None:
            return False
        try:
            if kind == "evaluations":
                own = keys.of_evaluation(baseline)(parse(Evaluation, line.measurement, ""))
            elif kind == "timed":
                own = keys.of_timing(baseline.options)(parse(TimingRow, line.measurement, ""))
            else:
                return True
        except RecordError:
            return False
        return holds(line.of, own)


def overview(results: Path) -> list[dict[str, Any]]:
    """What is there, by platform and configuration: counts of rows, how many of them are of inputs
    that are no more, and when the last was made."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    dates: dict[tuple[str, str], str] = {}
    for folder in platforms(results):
        store = Store(folder)
        for baseline in store.baselines.values():
            key = (folder.name, baseline.configuration.slug)
            counts[key], dates[key] = Counter(), baseline.date
        for row in store.rows():
            key = (folder.name, row.configuration)
            counts.setdefault(key, Counter()).update([row.kind])
            stale = row.kind in ("evaluations", "timed", "verify") and not row.current
            counts[key].update(["stale"] * stale)
            dates[key] = max(dates.get(key, ""), str(row.measured.get("date", "")))
    return [
        {
            "platform": platform,
            "configuration": configuration,
            **{kind: count[kind] for kind in (*ROW_KINDS, "stale")},
            "last": dates[platform, configuration],
        }
        for (platform, configuration), count in sorted(counts.items())
    ]


def scores_of(measured: Mapping[str, Any]) -> dict[str, list[float]]:
    """Scores per image, by metric, where there are any."""
    scores = measured.get("scores") or {}
    return {name: values for name, values in scores.items() if isinstance(values, list)}


def flat(row: Row) -> dict[str, Any]:
    """A row as one record of plain values, its identity with it, for tables."""
    measured, provenance = row.measured, row.provenance
    low, high = measured.get("loss_interval") or (None, None)
    timing = measured.get("timing") or {}
    configuration, spec, options, where = (
        provenance.get(name) or {} for name in ("configuration", "spec", "options", "environment")
    )
    return {
        "platform": where.get("platform", row.store.name),
        "kind": row.kind,
        "journal": str(row.path.relative_to(row.store)),
        "line": row.line.number,
        "digest": row.line.digest,
        "current": row.current,
        "schema": row.line.schema,
        **{name: configuration.get(name) for name in ("model", "scheduler", "steps")},
        "id": measured.get("id"),
        "parameters": json.dumps(measured.get("parameters"), sort_keys=True),
        "prompts": min(map(len, scores_of(measured).values()), default=None),
        "speedup": measured.get("speedup", timing.get("speedup")),
        "spread": timing.get("spread"),
        "loss": measured.get("loss"),
        "loss_low": low,
        "loss_high": high,
        **{f"mean_{name}": value for name, value in (measured.get("means") or {}).items()},
        **{name: measured.get(name) for name in ("first_call", "spent", "date", "failure")},
        **{name: measured.get(name) for name in ("prompt", "verdict", "judge")},
        "warnings": "; ".join(measured.get("warnings") or ()),
        **{name: spec.get(name) for name in ("family", "source", "height", "width", "batch_size")},
        "seed": options.get("seed"),
        **{name: where.get(name) for name in ("dtype", "device", "driver", "threads")},
        **{f"version_{name}": value for name, value in (where.get("versions") or {}).items()},
        **{f"hash_{name}": value for name, value in (provenance.get("fingerprint") or {}).items()},
    }


def problems(results: Path) -> list[str]:
    """Everything in the stores that is not as it was written: file, place in it, and why."""
    found = []
    for folder in platforms(results):
        store = Store(folder)
        found += [f"{each.path}: {each.why}" for each in damaged(folder, every_image=True)]
        found += store.broken()
        for path in sorted((folder / "search").glob("*.json")):
            found += _unfitting(path, store)
        for name in ("", *KINDS):
            unfinished = sorted((folder / name).glob(".*.????????"))
            found += [f"{path}: left by a writer that was killed; delete it" for path in unfinished]
    return found


def _unfitting(path: Path, store: Store) -> list[str]:
    """What a search was decided beside that is no more."""
    try:
        found = read_record(Search, path)
    except RecordError:
        return []  # said already
    there = store.baselines.values()
    named = {cell.baseline for cell in found.cells}
    own = {name for name in named if not any(each.is_named(name) for each in there)}
    return [f"{path}: decided beside a baseline {digest} that is not there" for digest in own]
