"""The store of a platform: who may write to it, whether what is in it is whole, and mending it.

A store is a folder ``results/<platform>``: records and outputs with a checksum, images of
baselines with their hashes, and journals, whose every line stands for itself.
`diffaccel.run.listing` lists what was measured.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from diffaccel.benchmark.judge.records import Judged
from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline
from diffaccel.machine.jobs import LOCK
from diffaccel.plugins.models import ModelSpec
from diffaccel.search.records import Search
from diffaccel.stages.records import SpeedRecord, Verification
from diffaccel.store.journal import append
from diffaccel.store.jsonio import (
    RecordError,
    changed_outputs,
    is_for,
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
"""Folders of journals in schemas 1 and 2, and now."""
ROW_KINDS = ("evaluations", "timed", "verify", "served", "speed", "judge", "comparisons")
"""Folders of the journals whose rows are listed and exported."""
SET_ASIDE = "set aside"
ASIDE = ".aside"
OLD = 1.0
"""When a file was written that is to be made again, in seconds since the epoch. Not 0: to snakemake
that is no time."""
TRIES = 5
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
    except BlockingIOError:
        file.close()
        raise InputError(
            f"another run writes to {store}; wait for it, or stop it. Runs that share no store go "
            "side by side: merge theirs with `diffaccel store merge`"
        ) from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): have no other run write to it", store, error)
    rename_folders(store)
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
    """Raises BlockingIOError where another run holds it; who only reads it lets go at once."""
    for left in reversed(range(TRIES)):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(0.02)


def damaged(store: Path, *, every_image: bool = False) -> Iterator[Damage]:
    """Records, images and outputs that are not as they were written.

    Args:
        every_image: check all images of the baselines, not only at those that seem to have been
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


def mend_if_told(store: Path) -> None:
    """Sets aside what is damaged, and has tried again what may have passed, where the environment
    says so; see `MENDING`."""
    if os.environ.get(MENDING) and store.is_dir():
        with hold(store):
            set_aside(store)
            try_again(store)
