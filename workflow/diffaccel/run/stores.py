"""The store of a platform: whether what is in it is whole, who may write to it, what it has.

A store is a folder ``results/<platform>``: records and outputs with a checksum, images of
baselines with their hashes, and journals, whose every line stands for itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from diffaccel.benchmark.judge.records import Judged
from diffaccel.errors import InputError
from diffaccel.evaluation import keys
from diffaccel.evaluation.records import Baseline, Evaluation, TimingRow
from diffaccel.machine.jobs import LOCK
from diffaccel.plugins.models import ModelSpec
from diffaccel.search.records import Search
from diffaccel.stages.records import SpeedRecord, Verification
from diffaccel.store.journal import Line, append, lines
from diffaccel.store.jsonio import (
    READS,
    RecordError,
    changed_outputs,
    is_for,
    listed,
    parse,
    read_record,
)

log = logging.getLogger(__name__)

KINDS: Mapping[str, Any] = {
    "models": ModelSpec,
    "baseline": Baseline,
    "search": Search,
    "verify": Verification,
    "speed": SpeedRecord,
    "judge": Judged,
}
"""The records of a store, by folder."""
OUTPUTS = (".", "tasks", "feasible", "code", "judge")
"""Folders of what is made from records and has no checksum of its own."""
MENDING = "DIFFACCEL_MENDING"
"""Environment variable that has the Snakefile call `mend_if_told` before it makes a plan."""
JOURNALS_BEFORE = {"drawn": "evaluations"}
"""Folders of journals in versions before 0.2, and now."""
SET_ASIDE = "set aside"
ASIDE = ".aside"
OLD = 1.0
"""When a file was written that is to be made again, in seconds since the epoch. Not 0: to snakemake
that is no time."""
LOOKS = 5
"""How often a lock is tried that may be taken."""


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written."""

    path: Path
    why: str


def hold(store: Path) -> IO[str]:
    """Takes a store for a run; it is held as long as what is given is open.

    Raises:
        InputError: another run has it, be it of this folder or of one that shares the store.
    """
    store.mkdir(parents=True, exist_ok=True)
    file = (store / LOCK).open("w")
    try:
        _lock(file)
        rename_folders(store)
    except BlockingIOError:
        file.close()
        raise InputError(
            f"another run writes to {store}; wait for it, or stop it. Runs that share no store go "
            "side by side: merge theirs with `diffaccel store merge`"
        ) from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): have no other run write to it", store, error)
    return file


def rename_folders(store: Path) -> None:
    """Gives the folders of a store's journals the names that they have now. Their lines stay."""
    for before, now in JOURNALS_BEFORE.items():
        old, new = store / "journal" / before, store / "journal" / now
        for path in sorted(old.glob("*.jsonl")):
            if (new / path.name).exists():
                append(new / path.name, path.read_bytes().splitlines())
                path.unlink()
            else:
                new.mkdir(parents=True, exist_ok=True)
                path.rename(new / path.name)


def _lock(file: IO[str]) -> None:
    """Raises BlockingIOError where another run holds it; who just looks at it lets go at once."""
    for left in reversed(range(LOOKS)):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(0.02)


def damaged(store: Path, *, every_image: bool = False) -> Iterator[Damage]:
    """Records, images and outputs that are not as they were written.

    Args:
        every_image: look at all images of the baselines, not only at those that seem to have been
            written after their record.
    """
    for name, kind in KINDS.items():
        for path in sorted((store / name).glob("*.json")):
            try:
                record = read_record(kind, path)
                if isinstance(record, Baseline):
                    _check_images(path, record, every_image)
            except RecordError as error:
                yield Damage(path, str(error).removeprefix(f"{path}: "))
            except InputError as error:
                yield Damage(path, str(error))
    for name in OUTPUTS:
        for path in changed_outputs(store / name):
            yield Damage(path, "changed after it was written")


def _check_images(path: Path, record: Baseline, every: bool) -> None:
    images, written = path.with_suffix(""), path.stat().st_mtime
    if not images.is_dir():
        return  # the record alone was brought here; what needs the images makes both again
    files = [images / f"{number:03}.png" for number in range(len(record.image_digests))]
    if every or any(not file.is_file() or file.stat().st_mtime > written for file in files):
        from diffaccel.evaluation.bench import load_images

        load_images(images, record)


def set_aside(store: Path) -> list[Damage]:
    """Takes what is damaged out of the way, so that it is made again from what was measured; it
    stays beside, under another name."""
    found = list(damaged(store))
    for each in found:
        each.path.replace(each.path.with_name(each.path.name + ASIDE))
        log.warning("%s: %s: %s", SET_ASIDE, each.path, each.why)
    return found


def try_again(store: Path) -> None:
    """Has what failed for what may pass made again: a record that tells of such is older than
    anything that it is made from. Speeds may be made from nothing: theirs is gone."""
    for name in ("search", "verify", "speed"):
        for path in sorted((store / name).glob("*.json")):
            with contextlib.suppress(RecordError):
                if not read_record(KINDS[name], path).passing:
                    continue
                if name == "speed":
                    path.unlink()
                else:
                    os.utime(path, (OLD, OLD))


def age(store: Path, requests: Iterable[tuple[str, Any]]) -> list[Path]:
    """Has made again what was made for another request, whoever knows of that besides: a record
    says itself what it was made for. It is made older than all that it is made from; what is made
    from nothing is set aside. While another run goes on nothing is done.

    Args:
        requests: of each record its path in the store, and the job that makes it now.
    """
    there = [(store / name, job) for name, job in requests if (store / name).is_file()]
    found = [path for path, job in there if not is_for(path, job)]
    if not found:
        return []
    try:
        held = hold(store)
    except InputError:
        return []
    with held:
        for path in found:
            if path.parent.name in ("models", "speed", "judge"):
                path.replace(path.with_name(path.name + ASIDE))
            else:
                os.utime(path, (OLD, OLD))
    return found


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
        kind: the journal's folder: ``drawn``, ``timed``, ``verify``, ``speed`` or ``judge``.
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
        abouts = {digest: each.provenance() for digest, each in self.baselines.items()}
        for path in self.journals:
            kind = JOURNALS_BEFORE.get(path.parent.name, path.parent.name)
            own = dict(abouts)
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
        return line.of == own


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


ROW_KINDS = ("evaluations", "timed", "verify", "served", "speed", "judge")


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


def mend_if_told(store: Path) -> None:
    """Sets aside what is damaged, and has tried again what may have passed, where the environment
    says so; see `MENDING`."""
    if os.environ.get(MENDING) and store.is_dir():
        with hold(store):
            set_aside(store)
            try_again(store)
