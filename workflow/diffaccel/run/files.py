"""Files and journals that are read again and again, each time only what is new in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from diffaccel.errors import InputError
from diffaccel.store.upgrade import upgraded

T = TypeVar("T")


class Files:
    """Files that are read again only when they changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    def get(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """What a file holds; what it held before while it is being written, None without it."""
        known = self._known.get(path)
        try:
            stat = path.stat()
            key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if known is None or known[0] != key:
                known = self._known[path] = (key, read(path))
        except FileNotFoundError:
            self._known.pop(path, None)
            return None
        except (InputError, OSError, KeyError, TypeError):
            pass
        return None if known is None else known[1]


class Journal:
    """A journal, of which what is new is read."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def rows(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Digest and measurement of the lines that came since."""
        try:
            if self._path.stat().st_size <= self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [row for line in whole.splitlines() if (row := _row(line)) is not None]


def _row(line: bytes) -> tuple[str, Mapping[str, Any]] | None:
    try:
        content = json.loads(line)
        content = upgraded(content, content["schema"])
        return (content["baseline"], content["measurement"]) if "measurement" in content else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
