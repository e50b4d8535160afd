"""The append-only journal of measurements: what was measured once is never measured again.

One file a cell, one JSON object a line, outside the outputs that Snakemake deletes. Each row names
the digest of all that determines it, so that a changed model, prompt or version never reuses one.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from diffaccel.jsonio import SCHEMA, RecordError, parse, to_json

log = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(frozen=True)
class Journal(Generic[R]):
    """The rows of one cell that belong to one baseline.

    Args:
        path: the file; it need not exist yet.
        digest: of the baseline that the measurements are compared with.
        kind: the record that a row holds.
    """

    path: Path
    digest: str
    kind: type[R]

    def append(self, measurement: R) -> None:
        """Adds a row and waits until it is on disk. Several processes may write."""
        row = {"schema": SCHEMA, "baseline": self.digest, "measurement": to_json(measurement)}
        line = json.dumps(row, sort_keys=True, allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # A writer that was killed may have left half a line: end it, readers skip it.
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[R]:
        """The measurements against this baseline, in the order in which they were made."""
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            measurement = self._read(line, number)
            if measurement is not None:
                found.append(measurement)
        return found

    def _read(self, line: bytes, number: int) -> R | None:
        if not line.strip():
            return None
        where = f"{self.path}:{number}"
        try:
            row = json.loads(line)
            if row["schema"] != SCHEMA or row["baseline"] != self.digest:
                return None
            return parse(self.kind, row["measurement"], where)
        except (ValueError, KeyError, TypeError, RecordError) as error:
            log.warning("%s: skipped, not a whole row (%s)", where, error)
            return None
