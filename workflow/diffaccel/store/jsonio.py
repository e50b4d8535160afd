"""Typed records on disk: JSON written atomically, keys sorted, with a schema version."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from diffaccel.errors import InputError
from diffaccel.store.upgrade import upgraded

SCHEMA = 3
"""Version of every record that this package writes."""
READS = (1, 2, 3)
"""Versions that it reads: what 1 had not, has a default; what 2 called otherwise, `upgrade` names.
"""

CHECKSUM = "checksum"
"""Key of a record's digest."""
BEFORE = "seal"
"""The same before schema 3."""
REQUEST = "request"
"""Key of the digest of the job that a record was made by."""


def _says_nothing(value: Any) -> bool:
    return value is None or value == ()


UNSAID = Field(exclude_if=_says_nothing)
"""Marks a field of a record, ``Annotated[..., UNSAID]``, that JSON is without where it says
nothing: records that do not use it, and digests of them, are as before there was such a field."""
UNSET = Field(exclude_if=lambda value: value is False)
"""The same of a flag that is off where nothing is said."""

R = TypeVar("R")


def listed(versions: Sequence[int]) -> str:
    """Versions in words: ``1, 2 and 3``."""
    *some, last = map(str, versions)
    return f"{', '.join(some)} and {last}" if some else last


class RecordError(InputError):
    """A file that should hold a record does not; says which file and which field."""


def dumps(value: Any) -> str:
    """One JSON text for one value, byte-stable. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def digest(value: Any) -> str:
    """A short hash (16 hex digits of SHA-256) of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Writes a file so that readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


SUMS = ".sha256"
"""File in a folder of results that lists what was written there, as ``sha256sum`` does."""
STALE = b"#"
"""What a line of it begins with whose file was written again: to ``sha256sum``, a comment."""


def write_output(path: Path, text: str) -> None:
    """Writes a result that has no place for a checksum, and notes that in its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = f"{hashlib.sha256(text.encode()).hexdigest()}  {path.name}\n".encode()
    sums = os.open(path.parent / SUMS, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(sums, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = file.read()
        # First, so that no whole file is without: two sums of one file, and either holds.
        file.write(line if known.endswith(b"\n") or not known else b"\n" + line)
        file.flush()
        write_text(path, text)
        # In place, one byte each: whoever is killed meanwhile leaves all other lines whole.
        for start, _, name in _listed(known):
            if name == path.name:
                file.seek(start)
                file.write(STALE)


def _listed(sums: bytes) -> Iterator[tuple[int, str, str]]:
    """Where each line of checksums begins that holds, its sum and its file's name."""
    start = 0
    for line in sums.splitlines(keepends=True):
        total, _, name = line.decode(errors="replace").rstrip("\n").partition("  ")
        if not line.startswith(STALE) and name and Path(name).name == name:
            yield start, total, name
        start += len(line)


def changed_outputs(folder: Path) -> list[Path]:
    """The files of a folder that are other than `write_output` wrote them."""
    try:
        listed = (folder / SUMS).read_bytes()
    except FileNotFoundError:
        return []
    sums: dict[Path, list[str]] = {}
    for _, total, name in _listed(listed):
        sums.setdefault(folder / name, []).append(total)
    files = sorted(sums.items())
    return [path for path, known in files if path.is_file() and _sum(path) not in known[-2:]]


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes a plain JSON value atomically."""
    write_text(path, dumps(value))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Building one takes longer than using it, and a graph of jobs asks for thousands."""
    return TypeAdapter(kind)


def to_json(record: Any) -> Any:
    """A dataclass record as a JSON value, without a schema version."""
    kind: Any = type(record)
    return _adapter(kind).dump_python(record, mode="json")


def write_record(path: Path, record: Any, job: Any = None) -> None:
    """Writes a dataclass record with its schema version and its checksum.

    Args:
        job: a JSON value, what was asked for; `is_for` tells whether a record is of it.
    """
    request = {} if job is None else {REQUEST: digest(job)}
    write_json(path, with_checksum({"schema": SCHEMA, **request, **to_json(record)}))


def is_for(path: Path, job: Any) -> bool:
    """Whether a record was made by this job; so is what does not say by which. It is not parsed:
    whoever makes a plan asks this of hundreds."""
    found = _REQUEST.search(path.read_text(encoding="utf-8", errors="replace"))
    return found is None or found[1] == digest(job)


# A key of the outermost level, as `dumps` indents it; no text has a newline in it.
_REQUEST = re.compile(rf'^ "{REQUEST}": "(\w+)"', re.M)


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its digest, by which `checksum_holds` knows whether it was changed since."""
    return {**content, CHECKSUM: digest(content)}


def checksum_holds(content: Mapping[str, Any]) -> bool:
    """Whether it is as it was when it was written. What has no checksum was not written by us, or
    by a version that knew none: it passes."""
    key = BEFORE if BEFORE in content else CHECKSUM
    rest = {name: value for name, value in content.items() if name != key}
    try:
        return key not in content or content[key] == digest(rest)
    except ValueError:  # NaN or infinity, which was never written
        return False


def parse(kind: type[R], value: Any, where: str) -> R:
    """A JSON value as a record.

    Raises:
        RecordError: a field is missing, unknown or of another type.
    """
    record: Any = kind
    try:
        found: R = _adapter(record).validate_python(value)
        return found
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        got = repr(first.get("input"))[:120]
        raise RecordError(f"{where}: {field}: {first['msg']}; got {got}") from None


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        RecordError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: there is no such file") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON ({error}); delete it to have it made again") from None


def read_fields(path: Path) -> Any:
    """The JSON value of a record's file, its fields named as they are now; nothing is checked.

    Raises:
        RecordError: the file is missing or is not JSON.
    """
    value = read_json(path)
    return upgraded(value, value.get("schema", SCHEMA)) if isinstance(value, Mapping) else value


def read_record(kind: type[R], path: Path) -> R:
    """The record in a file.

    Raises:
        RecordError: the file is missing, malformed, of another schema version, or was changed
            since it was written.
    """
    value = read_json(path)
    if not isinstance(value, Mapping) or value.get("schema") not in READS:
        got = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
        raise RecordError(
            f"{path}: schema {got!r}, this version reads {listed(READS)}; delete it to have it "
            "made again"
        )
    own = ("schema", CHECKSUM, BEFORE, REQUEST)
    fields = {key: item for key, item in value.items() if key not in own}
    record = parse(kind, upgraded(fields, value["schema"]), str(path))
    if not checksum_holds(value):
        raise RecordError(
            f"{path}: changed after it was written; restore it, or delete it to have it made "
            "again. If the change is meant, delete its checksum"
        )
    return record


def today() -> str:
    """Now, in UTC, to the second; for records, never for timing."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
