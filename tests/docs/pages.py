"""The project's pages: what is in them, and running what they say."""

from __future__ import annotations

import functools
import json
import operator
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "results" / "README.md"])
"""Every page that people read."""

FENCE = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)


def prose(page: str) -> str:
    """A page without its code blocks; as many lines as before, so that places stay."""
    return FENCE.sub(lambda found: "\n" * found[0].count("\n"), page)


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Args:
        language: first word behind the fence.
        file: what ``file=`` behind it names: a file that the block is added to.
        line: of the fence, from 1 on.
        output: what the page shows below the block, in a block ``text``; None: nothing.
        measured: behind the fence of that stands ``measured``: its numbers are others each time.
    """

    language: str
    file: str | None
    text: str
    line: int
    output: str | None = None
    measured: bool = False


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are run or written, in order, with what they are to print."""
    found = []
    for each in FENCE.finditer(page):
        language, *rest = each["info"].split() or [""]
        file = next((word.removeprefix("file=") for word in rest if word.startswith("file=")), None)
        line = page.count("\n", 0, each.start()) + 1
        block = Block(language, file, each["text"], line, measured="measured" in rest)
        found.append((each, block))
    after = [*found[1:], None]
    for (each, block), below in zip(found, after, strict=True):
        if block.language not in ("bash", "python"):
            continue
        if (
            below is None
            or below[1].language != "text"
            or page[each.end() : below[0].start()].strip()
        ):
            yield block
        else:
            yield replace(block, output=below[1].text, measured=below[1].measured)


# ---- what is shown and what is printed ---------------------------------------------------------

MEASURED = re.compile(r"[-+]?\d+(\.\d+)?(x|%)?[?*]*(\.\.[-+]\d+(\.\d+)?%)?|-")
"""A word that was measured, and is another each time: a number, a speedup, a loss, an interval."""
DIGITS = re.compile(r"[-+]?\d+(\.\d+)?")


def _same(shown: str, printed: str) -> bool:
    """Whether two words are equal but for what was measured."""
    if MEASURED.fullmatch(shown) and MEASURED.fullmatch(printed):
        return True
    return DIGITS.sub("0", shown) == DIGITS.sub("0", printed)


def _same_line(shown: str, printed: str, measured: bool) -> bool:
    words, others = shown.removesuffix("...").split(), printed.split()
    if shown.endswith("..."):
        others = others[: len(words)]
        if not shown.endswith(" ...") and len(words) == len(others):
            others[-1] = others[-1][: len(words[-1])]
    same = _same if measured else operator.eq
    return len(words) == len(others) and all(map(same, words, others))


def as_shown(shown: str, printed: str, measured: bool = False) -> bool:
    """Whether what was printed is what a page shows, up to white space.

    Args:
        measured: its numbers may be others.

    ``...`` in a page stands for any lines, none, too; at the end of a line, for any words,
    and at the end of a word for its rest.
    """
    starts = functools.partial(_starts, measured)
    groups: list[list[str]] = [[]]
    for line in shown.strip().splitlines():
        if line.strip() == "...":
            groups.append([])
        elif line.strip():
            groups[-1].append(line)
    lines = [line for line in printed.splitlines() if line.strip()]
    if len(groups) == 1:
        return len(lines) == len(groups[0]) and starts(groups[0], lines)
    first, *middle, last = groups
    if not starts(first, lines) or not starts(last[::-1], lines[::-1]):
        return False
    rest = lines[len(first) : len(lines) - len(last)]
    for group in middle:
        start = next((i for i in range(len(rest) + 1) if starts(group, rest[i:])), None)
        if start is None:
            return False
        rest = rest[start + len(group) :]
    return len(lines) >= len(first) + len(last)


def _starts(measured: bool, shown: list[str], printed: list[str]) -> bool:
    pairs = zip(shown, printed, strict=False)
    return len(printed) >= len(shown) and all(_same_line(*pair, measured) for pair in pairs)


# ---- running a page ----------------------------------------------------------------------------

SESSION = """
import contextlib, io, json, sys, traceback
space = {"__name__": "__main__"}
for line in sys.stdin:
    printed, well = io.StringIO(), True
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(json.loads(line), "page", "exec"), space)
        except BaseException:
            traceback.print_exc(file=printed)
            well = False
    print(json.dumps([well, printed.getvalue()]), flush=True)
"""
"""One Python for all blocks of a page, as a reader has."""


def follow(page: Path, folder: Path, environment: Mapping[str, str]) -> int:
    """Does in a folder what a page says, block by block; how many were done.

    Raises:
        AssertionError: a block fails, or prints something else than the page shows.
    """
    done = 0
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION],
        cwd=folder,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with session:
        assert session.stdin is not None and session.stdout is not None
        for block in blocks(page.read_text(encoding="utf-8")):
            where = f"{page.name}, line {block.line}"
            if block.file is not None:
                with (folder / block.file).open("a", encoding="utf-8") as file:
                    file.write(block.text)
                continue
            if block.language == "python":
                session.stdin.write(json.dumps(block.text) + "\n")
                session.stdin.flush()
                well, printed = json.loads(session.stdout.readline())
                said = printed
            else:
                ran = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", block.text],
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                well, printed = ran.returncode == 0, ran.stdout
                said = ran.stdout + ran.stderr
            assert well, f"{where} fails:\n{block.text}\n{said}"
            if block.output is not None:
                assert as_shown(block.output, printed, block.measured), (
                    f"{where} shows\n{block.output}\nand this is printed:\n{printed}"
                )
            done += 1
        session.stdin.close()
    return done
