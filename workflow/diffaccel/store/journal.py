"""The append-only journal of measurements: what was measured once is never measured again.

One file a cell, one JSON object a line, outside the outputs that Snakemake deletes. Each row names
all that determines it, so that a changed model, prompt or version never reuses one: the digest of
what it shares with the other rows of its baseline, and what is its own, such as its accelerators.
It has a checksum; before the first row of a digest stands what the digest is of.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from diffaccel.store.jsonio import (
    READS,
    SCHEMA,
    RecordError,
    checksum_holds,
    parse,
    to_json,
    with_checksum,
)
from diffaccel.store.upgrade import upgraded

log = logging.getLogger(__name__)

R = TypeVar("R")


ADDED = "+"
"""How the names of those determinants begin that a row may have beyond what is asked for."""


def holds(of: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether a row is as it would be now.

    Args:
        of: what determined it, by name.
        now: the same as it is now.
    """
    more = of.keys() - now.keys()
    return now.items() <= of.items() and all(name.startswith(ADDED) for name in more)


@dataclass(frozen=True)
class Line:
    """A whole line of a journal.

    Args:
        of: what determines this row besides what the digest is of, by name.
        provenance: where it says what a digest is of, else None.
        measurement: what was measured, as JSON, else None.
    """

    number: int
    text: bytes
    schema: int
    digest: str
    provenance: Mapping[str, Any] | None
    measurement: Mapping[str, Any] | None
    of: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: bytes, number: int) -> Line:
        """Raises ValueError where it is not whole."""
        row = json.loads(text)
        if not isinstance(row, dict) or not isinstance(row.get("schema"), int):
            raise ValueError("no row with a schema version")
        if not checksum_holds(row):
            raise ValueError("changed after it was written: its checksum does not fit")
        row = upgraded(row, row["schema"])
        provenance, measurement = row.get("provenance"), row.get("measurement")
        known = isinstance(provenance, dict) != isinstance(measurement, dict)
        if not known or not isinstance(row.get("baseline"), str):
            raise ValueError("neither a measurement of a baseline nor what one is about")
        own = row.get("of", {})
        return cls(number, text, row["schema"], row["baseline"], provenance, measurement, own)


def lines(path: Path) -> Iterator[Line | tuple[int, str]]:
    """The whole lines of a journal; of what is not one, its number and what is wrong."""
    content = path.read_bytes() if path.exists() else b""
    for number, text in enumerate(content.split(b"\n"), start=1):
        if text.strip():
            try:
                yield Line.read(text, number)
            except (ValueError, RecursionError) as error:
                yield number, str(error)


@dataclass(frozen=True)
class Journal(Generic[R]):
    """The rows of one cell that belong to one baseline.

    Args:
        path: the file; it need not exist yet.
        digest: of the baseline that the measurements are compared with.
        kind: the record that a row holds.
        provenance: what the digest is of, for people and for exports.
        own: what determines a row besides that, by name, as it is now; a row of which it was
            otherwise is not read.
    """

    path: Path
    digest: str
    kind: type[R]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    own: Callable[[R], Mapping[str, str]] = lambda row: {}

    def append(self, measurement: R) -> None:
        """Adds a row and waits until it is on disk. Several processes may write."""
        own = self.own(measurement)
        row = {"measurement": to_json(measurement), **({"of": own} if own else {})}
        head = self._line({"provenance": self.provenance}) if self.provenance else None
        append(self.path, [self._line(row)], head)

    def _line(self, content: Mapping[str, Any]) -> bytes:
        row = with_checksum({"schema": SCHEMA, "baseline": self.digest, **content})
        return json.dumps(row, sort_keys=True, allow_nan=False).encode()

    def rows(self) -> list[R]:
        """The measurements against this baseline, in the order in which they were made."""
        found = []
        for line in lines(self.path):
            if not isinstance(line, Line):
                log.warning("%s:%d: skipped, not a whole row (%s)", self.path, *line)
            elif line.measurement and line.schema in READS and line.digest == self.digest:
                try:
                    row = parse(self.kind, line.measurement, f"{self.path}:{line.number}")
                except RecordError as error:
                    log.warning("skipped, not a whole row (%s)", error)
                    continue
                if holds(line.of, self.own(row)):
                    found.append(row)
        return found


def append(path: Path, rows: list[bytes], head: bytes | None = None) -> None:
    """Adds lines to a journal and waits until they are on disk.

    Args:
        head: a line that is written before them unless the journal has it already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        if head is not None and head not in content:
            rows = [head, *rows]
        text = b"".join(row + b"\n" for row in rows)
        # A writer that was killed may have left half a line: end it, readers skip it.
        file.write(b"\n" + text if content and not content.endswith(b"\n") else text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """The time in which this process alone measures for a journal or a folder of them; another one
    waits, and then finds everything there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.info("waiting for another process that measures for %s", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
