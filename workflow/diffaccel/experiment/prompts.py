"""Reading prompts from a file of the user's: plain text, a table (TSV) or JSON lines.

Every format has one prompt a line, in UTF-8; blank lines and lines that start with ``#`` do not
count. The ending says which format it is: ``.tsv``, ``.jsonl``, and plain text for any other.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection
from pathlib import Path

from diffaccel.errors import InputError

KEYS = ("prompt", "text", "caption")
"""What holds the prompt: the name of a table's column or of a JSON object's key, the first found
of these in this order, in upper or lower case."""

_NOT_READ = (".csv", ".json", ".parquet", ".xlsx")

Line = tuple[int, str]
"""A line that counts, with its number in the file."""


class PromptError(InputError):
    """A prompt file is missing, not of its format, or too short."""


def read_prompts(path: Path, count: int, most: int = 0) -> list[str]:
    """The first ``count`` prompts of a file, or ``most`` where it has more, each with its white
    space made single.

    A table's first line names its columns if it holds one of `KEYS`; without it the prompts are
    the only column, or the first in which every cell has at least two words. Cells may be quoted
    as in CSV. A JSON line is an object that holds one of `KEYS`, or a string.

    Raises:
        PromptError: the file is missing, is not UTF-8, has fewer prompts, has a line that is not
            of its format or has an empty prompt, or has no column of prompts.
    """
    if path.suffix.lower() in _NOT_READ:
        raise PromptError(
            f"prompts {path}: {path.suffix} is not read; give one prompt a line as text, .tsv "
            "or .jsonl"
        )
    lines = _lines(path)
    read = _READERS.get(path.suffix.lower(), _plain)
    # What comes after is not looked at, so that a huge file costs little; a table has one more
    # line, its header.
    try:
        most = max(count, most)
        found = read(lines[: most + 1])[:most]
    except _LineError as error:
        raise PromptError(f"prompts {path}: {error}") from None
    prompts = [" ".join(prompt.split()) for _, prompt in found]
    for (number, _), prompt in zip(found, prompts, strict=True):
        if not prompt:
            raise PromptError(f"prompts {path}: line {number}: the prompt is empty")
    if len(prompts) < count:
        raise PromptError(
            f"prompts {path}: has {len(prompts)}, and {count} are asked for; add some, or lower "
            "measure.prompts"
        )
    return prompts


def read_unseen(path: Path, count: int, seen: Collection[str]) -> list[str]:
    """The first ``count`` prompts of a file that are not among those seen, each once; fewer, or
    none, where it has no more.

    Raises:
        PromptError: the file cannot be read.
    """
    fresh = dict.fromkeys(read_prompts(path, 0, count + len(seen)))
    return [prompt for prompt in fresh if prompt not in seen][:count]


def _lines(path: Path) -> list[Line]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PromptError(f"prompts {path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise PromptError(
            f"prompts {path}: not UTF-8 (byte {error.start}); save it as such"
        ) from None
    except OSError as error:
        raise PromptError(f"prompts {path}: cannot be read ({error.strerror})") from None
    # Not splitlines(): JSON strings may hold other line ends of Unicode.
    numbered = enumerate(text.split("\n"), start=1)
    return [(number, line) for number, line in numbered if line.strip() and not _is_comment(line)]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


class _LineError(Exception):
    """What is wrong with the lines, not yet saying of which file."""


def _plain(lines: list[Line]) -> list[Line]:
    return lines


def _json(lines: list[Line]) -> list[Line]:
    return [(number, _json_prompt(number, line)) for number, line in lines]


def _json_prompt(number: int, line: str) -> str:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise _LineError(f"line {number}: not JSON ({error.msg}): {line.strip()[:60]!r}") from None
    if isinstance(value, dict):
        named = {str(key).lower(): item for key, item in value.items()}
        value = next((named[key] for key in KEYS if key in named), None)
    if not isinstance(value, str):
        raise _LineError(
            f"line {number}: neither a string nor an object with a string as one of "
            f"{', '.join(KEYS)}: {line.strip()[:60]!r}"
        )
    return value


def _table(lines: list[Line]) -> list[Line]:
    rows = [(number, _cells(number, line)) for number, line in lines]
    if not rows:
        return []
    header = [cell.strip().lower() for cell in rows[0][1]]
    named = next((header.index(key) for key in KEYS if key in header), None)
    if named is None:
        column = _unnamed_column(rows)
    else:
        column = named
        rows = rows[1:]
    for number, cells in rows:
        if len(cells) <= column:
            raise _LineError(f"line {number}: has no column {column + 1}, where the prompts are")
    return [(number, cells[column]) for number, cells in rows]


def _cells(number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error:
        # A prompt that merely starts with a quoted word is as it stands.
        if line.count('"') % 2 == 0:
            return line.split("\t")
        raise _LineError(f"line {number}: a quote is not closed: {line.strip()[:60]!r}") from None


def _unnamed_column(rows: list[tuple[int, list[str]]]) -> int:
    width = min(len(cells) for _, cells in rows)
    if max(len(cells) for _, cells in rows) == 1:
        return 0
    for column in range(width):
        if all(len(cells[column].split()) > 1 for _, cells in rows):
            return column
    raise _LineError(
        f"no column is named {', '.join(KEYS)} (line {rows[0][0]} is {rows[0][1]}), and none has "
        "several words in every line; name one in a first line"
    )


_READERS: dict[str, Callable[[list[Line]], list[Line]]] = {".tsv": _table, ".jsonl": _json}
