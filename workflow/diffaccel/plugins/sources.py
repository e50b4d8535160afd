"""What names a model's files: a folder, a single file, or an id on a hub, ``owner/name`` or
``owner/name@revision``."""

from __future__ import annotations

import re
from pathlib import Path

_ID = re.compile(r"(?!\.)[\w.-]+/[\w.-]+(@[\w./-]+)?")
SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""What files with all weights of a pipeline end in; only the first kind is loaded."""


def is_local(source: str) -> bool:
    """Whether it names a folder or a file, be it there or not."""
    return not _ID.fullmatch(source) or is_single_file(source) or Path(source).exists()


def is_single_file(source: str) -> bool:
    """Whether it names one file with all weights of a pipeline."""
    return source.endswith(SINGLE_FILES)


def split(source: str) -> tuple[str, str | None]:
    """A folder, a file or an id, and the revision of an id where it has one: a branch, a tag or a
    commit."""
    if is_local(source):
        return source, None
    name, _, revision = source.partition("@")
    return name, revision or None
