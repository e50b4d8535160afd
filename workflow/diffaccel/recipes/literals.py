"""Text of a task, a configuration or a file as it enters generated scripts: as literals, and in
docstrings."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable

Plain = str | int | float | bool | None
"""What has a literal."""
LINE = 100
"""Longest line of a script, in characters."""


def literal(value: Plain) -> str:
    """A value as a Python literal.

    Raises:
        ValueError: a number is not finite.
        TypeError: no such literal is needed.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"not a finite number: {value}")
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if type(value) is not str:
        raise TypeError(f"no literal for {type(value).__name__} {value!r}")
    return repr(value)


def assign(name: str, value: Plain) -> str:
    """A constant's definition; a long string goes over several lines."""
    line = f"{name} = {literal(value)}"
    if len(line) <= LINE or not isinstance(value, str):
        return line
    # An escaped character takes at most ten columns.
    width = (LINE - len('    ""')) // (1 if literal(value)[1:-1] == value else 10)
    pieces = [literal(value[start : start + width]) for start in range(0, len(value), width)]
    return f"{name} = (\n" + "".join(f"    {piece}\n" for piece in pieces) + ")"


def docstring(paragraphs: Iterable[str]) -> str:
    """A docstring of wrapped paragraphs; characters that could end it or act in it are escaped."""
    wrapped: list[str] = []
    for number, paragraph in enumerate(paragraphs):
        text = " ".join(paragraph.split())
        text = repr(f"{text}'\"")[1 : -len("\\'\"'")].replace("\\'", "'")
        text = text.replace('"""', '\\"\\"\\"')
        lines = textwrap.wrap(
            text if number else f'"""{text}',
            LINE,
            subsequent_indent="  " if number else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        wrapped.append("\n".join(lines))
        if not number:
            wrapped.append("")
    return "\n".join(wrapped) + '\n"""'
