"""Typed records on disk: JSON written atomically, keys sorted, with a schema version."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from diffaccel.errors import InputError

SCHEMA = 1
"""Version of every record that this package writes."""

R = TypeVar("R")


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


def write_record(path: Path, record: Any) -> None:
    """Writes a dataclass record with its schema version."""
    write_json(path, {"schema": SCHEMA, **to_json(record)})


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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(f"{path}: not JSON ({error}); delete it to have it made again") from None


def read_record(kind: type[R], path: Path) -> R:
    """The record in a file.

    Raises:
        RecordError: the file is missing, malformed, or of another schema version.
    """
    value = read_json(path)
    if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
        got = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
        raise RecordError(
            f"{path}: schema {got!r}, this version reads {SCHEMA}; delete it to have it made again"
        )
    fields = {key: item for key, item in value.items() if key != "schema"}
    return parse(kind, fields, str(path))
