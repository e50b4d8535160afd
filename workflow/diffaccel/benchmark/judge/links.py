"""Where the links in a model's folder lead: a hub's cache keeps files apart from their names, and
users lay links to what is large. A sandbox has to have what they lead to where they lead to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def with_links(readable: Mapping[str, Path]) -> dict[str, Path]:
    """The same, and all that links in it lead to.

    Args:
        readable: path there -> path here, of folders and files; none of them a link.
    """
    found = dict(readable)
    queue = list(readable.items())
    while queue:
        place, path = queue.pop()
        for link in _links(path):
            # The folders above are the same here and there; a link is not read through another.
            told = os.path.join(place, os.path.relpath(link.parent, path), os.readlink(link))
            target, there = Path(os.path.realpath(link)), os.path.normpath(told)
            exists = os.path.exists(link)  # of a link that leads in a circle it is false
            if exists and not _is_within(there, found) and not _holds_too_much(target, path):
                found[there] = target
                queue.append((there, target))
    return found


def _links(folder: Path) -> Iterator[Path]:
    """All links in a folder."""
    for parent, folders, files in os.walk(folder):
        yield from (
            path for name in (*folders, *files) if (path := Path(parent, name)).is_symlink()
        )


def _is_within(place: str, slots: Mapping[str, Path]) -> bool:
    return any(Path(place).is_relative_to(each) for each in slots)


def _holds_too_much(target: Path, folder: Path) -> bool:
    """Whether it has the folder itself in it, or the home folder: no model asks for these."""
    return any(each.is_relative_to(target) for each in (folder.resolve(), Path.home().resolve()))
