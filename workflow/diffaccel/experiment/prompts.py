"""Reading prompts from a file of the user's: plain text, a table (TSV) or JSON lines.

Every format has one prompt a line, in UTF-8; blank lines and lines that start with ``#`` do not
count. The ending says which format it is: ``.tsv``, ``.jsonl``, and plain text for any other. A
table or a JSON line may also say a prompt's negative prompt and its seed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from diffaccel.errors import InputError
from diffaccel.store.jsonio import UNSAID, to_json

KEYS = ("prompt", "text", "caption")
"""What holds the prompt: the name of a table's column or of a JSON object's key, the first found
of these in this order, in upper or lower case."""

NEGATIVE, SEED = "negative_prompt", "seed"
"""What else a column or a key may hold."""
FILES = ("image", "mask")
"""What names files, where a model's task has prompts come with some."""
SIZES = ("width", "height")
"""What none may: images of different sizes do not go into one call, nor into one array."""
LARGEST_SEED = 2**63 - 1

_NOT_READ = (".csv", ".json", ".parquet", ".xlsx")

Line = tuple[int, str]
"""A line that counts, with its number in the file."""
Fields = Mapping[str, Any]
"""What a line holds, by the names in lower case of columns or keys; the prompt is ``prompt``."""
Read = list[tuple[int, Fields]]
"""What lines hold, each with its number."""


@dataclass(frozen=True)
class PromptLine:
    """A prompt whose line says more than its text.

    Args:
        negative_prompt: its own; empty: the model's, or the empty one. In a list of prompts all
            have one, or none has.
        seed: its own; None: what its place in the list makes it.
        image, mask: files that it comes with, by their names in the model's folder of inputs.
        inputs: hash of what these hold, once they were read.
    """

    prompt: str
    negative_prompt: Annotated[str | None, UNSAID] = None
    seed: Annotated[int | None, UNSAID] = None
    image: Annotated[str | None, UNSAID] = None
    mask: Annotated[str | None, UNSAID] = None
    inputs: Annotated[str | None, UNSAID] = None


Prompt = str | PromptLine
"""A prompt: its text, where its line says no more."""


def text_of(prompt: Prompt) -> str:
    """What is drawn, and what its image is scored with."""
    return prompt if isinstance(prompt, str) else prompt.prompt


def texts_of(prompts: Iterable[Prompt]) -> list[str]:
    """The texts of prompts, in order."""
    return [text_of(prompt) for prompt in prompts]


def as_line(prompt: Prompt) -> PromptLine:
    """A prompt that more can be said of."""
    return PromptLine(prompt) if isinstance(prompt, str) else prompt


def subjects_of(prompts: Iterable[Prompt]) -> list[str]:
    """What tells prompts apart, be they drawn with several seeds: their texts, and what their
    images hold."""
    lines = map(as_line, prompts)
    return [f"{each.prompt}\n{each.inputs}" if each.inputs else each.prompt for each in lines]


def as_json(prompts: Iterable[Prompt]) -> list[Any]:
    """Prompts as a JSON value; those that are texts alone are texts in it."""
    return [each if isinstance(each, str) else to_json(each) for each in prompts]


def seeds_of(prompts: Iterable[Prompt], first: int) -> list[int]:
    """The seed of each: prompt i has ``first + i``, unless it has its own."""
    own = [None if isinstance(prompt, str) else prompt.seed for prompt in prompts]
    return [first + place if seed is None else seed for place, seed in enumerate(own)]


def repeated(prompts: Iterable[Prompt], seeds: int | None) -> list[Prompt]:
    """Each prompt as often as it has seeds, one after the other. Where its line says a seed, that
    is the first of these."""
    return [_again(prompt, time) for prompt in prompts for time in range(seeds or 1)]


def _again(prompt: Prompt, time: int) -> Prompt:
    if isinstance(prompt, str) or prompt.seed is None:
        return prompt
    return replace(prompt, seed=prompt.seed + time)


def have_negatives(prompts: Sequence[Prompt]) -> bool:
    """Whether prompts have negative prompts of their own: all of them, or none."""
    return any(not isinstance(each, str) and each.negative_prompt is not None for each in prompts)


def negatives_of(prompts: Sequence[Prompt], usual: str | None) -> list[str] | None:
    """The negative prompt of each: its own, else the usual one; None where there is none at all."""
    if not have_negatives(prompts):
        return None if usual is None else [usual] * len(prompts)
    own = [None if isinstance(prompt, str) else prompt.negative_prompt for prompt in prompts]
    return [each or usual or "" for each in own]


class PromptError(InputError):
    """A prompt file is missing, not of its format, or too short."""


def read_prompts(
    path: Path, count: int, most: int = 0, files: Collection[str] = ()
) -> list[Prompt]:
    """The first ``count`` prompts of a file, or ``most`` where it has more, each with its white
    space made single.

    A table's first line names its columns if it holds one of `KEYS`; without it the prompts are
    the only column, or the first in which every cell has at least two words. Cells may be quoted
    as in CSV. A JSON line is an object that holds one of `KEYS`, or a string. Where the first line
    has a negative prompt, all have.

    Args:
        files: what columns or keys may name files that prompts come with: ``image``, ``mask``.

    Raises:
        PromptError: the file is missing, is not UTF-8, has fewer prompts, has a line that is not
            of its format or has an empty prompt, or has no column of prompts; or it has sizes.
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
        prompts = _prompts(found, files)
    except _LineError as error:
        raise PromptError(f"prompts {path}: {error}") from None
    if len(prompts) < count:
        raise PromptError(
            f"prompts {path}: has {len(prompts)}, and {count} are asked for; add some, or lower "
            "measure.prompts"
        )
    return prompts


def read_unseen(path: Path, count: int, seen: Collection[Prompt]) -> list[Prompt]:
    """The first ``count`` prompts of a file whose texts are not among those seen, each once; fewer,
    or none, where it has no more. They have negative prompts, be they empty, where those have.

    Raises:
        PromptError: the file cannot be read.
    """
    return unseen(read_prompts(path, 0, count + len(seen)), count, seen)


def unseen(prompts: Sequence[Prompt], count: int, seen: Collection[Prompt]) -> list[Prompt]:
    """The same of prompts that were read."""
    known, found = set(subjects_of(seen)), list[Prompt]()
    for prompt, subject in zip(prompts, subjects_of(prompts), strict=True):
        if subject not in known and len(found) < count:
            known.add(subject)
            found.append(prompt)
    if have_negatives(list(seen)) and not have_negatives(found):
        return [replace(as_line(each), negative_prompt="") for each in found]
    return found


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


def _prompts(found: Read, files: Collection[str]) -> list[Prompt]:
    """The prompts of lines: as much of each as it says."""
    negative = bool(found) and NEGATIVE in found[0][1]
    for number, fields in found:
        if NEGATIVE in fields and not negative:
            raise _LineError(
                f"line {number}: has a {NEGATIVE}, and line {found[0][0]} has none: give all of "
                'them one, which may be ""'
            )
    prompts = [_prompt(number, fields, negative) for number, fields in found]
    named = [name for name in files if any(name in fields for _, fields in found)]
    return [
        _with_files(prompt, number, fields, named) if named else prompt
        for prompt, (number, fields) in zip(prompts, found, strict=True)
    ]


def _with_files(prompt: Prompt, number: int, fields: Fields, named: Sequence[str]) -> PromptLine:
    """A prompt with the files that its line names; where one line names some, all must."""
    for name in named:
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise _LineError(
                f"line {number}: {name} must be the name of a file in `inputs`, not {value!r}; "
                "give all prompts one, or none"
            )
    files: dict[str, Any] = {name: fields[name].strip() for name in named}
    return replace(as_line(prompt), **files)


def _prompt(number: int, fields: Fields, negative: bool) -> Prompt:
    """A prompt of a line, with a negative prompt where it is to have one."""
    text = " ".join(fields[KEYS[0]].split())
    if not text:
        raise _LineError(f"line {number}: the prompt is empty")
    if size := next((name for name in SIZES if name in fields), None):
        raise _LineError(
            f"line {number}: has a {size}, and all images of a model are of one size: make an "
            "entry under `models:` for each size, with `height`, `width` and a file of its prompts"
        )
    own, seed = fields.get(NEGATIVE) or "", _seed(number, fields.get(SEED))
    if not isinstance(own, str):
        raise _LineError(f"line {number}: {NEGATIVE} must be a text, not {own!r}")
    if not negative and seed is None:
        return text
    return PromptLine(text, " ".join(own.split()) if negative else None, seed)


def _seed(number: int, given: Any) -> int | None:
    """A seed as a number, or in digits; none where there is nothing."""
    if given is None or given == "":
        return None
    digits = isinstance(given, str) and given.strip().isascii() and given.strip().isdigit()
    seed = int(given) if digits else given
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise _LineError(
            f"line {number}: {SEED} must be a whole number from 0 to {LARGEST_SEED}, not {given!r}"
        )
    return seed


def _plain(lines: list[Line]) -> Read:
    return [(number, {KEYS[0]: line}) for number, line in lines]


def _json(lines: list[Line]) -> Read:
    return [(number, _json_cells(number, line)) for number, line in lines]


def _json_cells(number: int, line: str) -> Fields:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise _LineError(f"line {number}: not JSON ({error.msg}): {line.strip()[:60]!r}") from None
    named = {KEYS[0]: value}
    if isinstance(value, dict):
        named = {str(key).lower(): item for key, item in value.items()}
        named[KEYS[0]] = next((named[key] for key in KEYS if key in named), None)
    if not isinstance(named[KEYS[0]], str):
        raise _LineError(
            f"line {number}: neither a string nor an object with a string as one of "
            f"{', '.join(KEYS)}: {line.strip()[:60]!r}"
        )
    return named


def _table(lines: list[Line]) -> Read:
    rows = [(number, _cells(number, line)) for number, line in lines]
    if not rows:
        return []
    header = [cell.strip().lower() for cell in rows[0][1]]
    named = next((key for key in KEYS if key in header), None)
    if named is None:
        columns = {KEYS[0]: _unnamed_column(rows)}
    else:
        rows, columns = rows[1:], {KEYS[0]: header.index(named)}
        more = (name for name in (NEGATIVE, SEED, *FILES, *SIZES) if name in header)
        columns |= {name: header.index(name) for name in more}
    for number, cells in rows:
        if len(cells) <= (column := columns[KEYS[0]]):
            raise _LineError(f"line {number}: has no column {column + 1}, where the prompts are")
    return [
        (number, {name: "".join(cells[at : at + 1]) for name, at in columns.items()})
        for number, cells in rows
    ]


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


_READERS: dict[str, Callable[[list[Line]], Read]] = {
    ".tsv": _table,
    ".jsonl": _json,
}
