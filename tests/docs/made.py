"""Parts of pages that are made: each stands between two comments with its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

Parts = Mapping[str, Callable[[], str]]
"""What makes the text of a part, by its name."""


def written(page: str, parts: Parts) -> str:
    """A page with its parts as they are now."""
    for name, make in parts.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = make()
        page = place.sub(lambda found, text=text: f"{found[1]}{text}{found[2]}", page)
    return page


def write(path: Path, parts: Parts) -> None:
    """Writes the parts into a page."""
    path.write_text(written(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
    print(path)
