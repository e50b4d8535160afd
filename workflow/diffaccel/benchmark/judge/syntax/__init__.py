"""What a script does when it is called, as far as its syntax tree tells; nothing of it is run.

The tree is followed as Python would run it: the module from top to bottom, then the functions that
are asked for, and whatever they call. Names, imports, constants, arguments and attributes have
values where the syntax tells them, and are unknown where it does not. What cannot be reached
(behind a ``return``, under ``if False``, in a function that nobody calls) does not count. Where a
condition is unknown both branches are followed: what one of them does may have been done, and a
value is any of what they give.

Reading is bounded, whatever the source: see `LONGEST`, `MOST_WORK` and `DEEPEST`.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence

from diffaccel.benchmark.judge.syntax.known import Known
from diffaccel.benchmark.judge.syntax.pipelines import GENERAL, Generation, plain
from diffaccel.benchmark.judge.syntax.statements import Statements
from diffaccel.benchmark.judge.syntax.values import (
    UNKNOWN,
    Arguments,
    Function,
    UnreadableError,
    Value,
    options,
)
from diffaccel.benchmark.judge.syntax.ways import Frame, Stops

__all__ = ["GENERAL", "LONGEST", "Generation", "Known", "Script", "UnreadableError", "plain"]

LONGEST = 200_000
"""Bytes of source that are read."""


class Script(Statements):
    """A script that is followed.

    Args:
        source: as in the file.
        known: what accelerators say of themselves.

    Raises:
        UnreadableError: it is not Python, or there is too much of it.
    """

    def __init__(self, source: bytes, known: Known) -> None:
        super().__init__(known)
        self.ends = False
        """Whether reading the module raises or exits."""
        self._tree = _parse(source)
        with self._bounded():
            self.ends = not self._block(self._tree.body, Frame(0))

    def function(self, name: str) -> Function | None:
        """A function at the top of the module."""
        found = self._state.get(("name", 0, name), UNKNOWN)
        return next((each for each in options(found) if isinstance(each, Function)), None)

    def call(
        self, function: Function, arguments: Sequence[Value], *, often: bool = False
    ) -> Value | None:
        """Follows a function; gives what it returns, or None where it only raises or exits.

        Args:
            often: it is called more than once.
        """
        before, given = dict(self._state), Arguments(tuple(arguments))
        with self._bounded(), contextlib.suppress(Stops):
            found = self._call(function, given)
            if often and self._loosen(before):
                self._call(function, given)
            return found
        return None


def _parse(source: bytes) -> ast.Module:
    if len(source) > LONGEST:
        raise UnreadableError(f"it has {len(source)} bytes; {LONGEST} are read")
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise UnreadableError(f"it is not Python: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UnreadableError(f"it cannot be read as Python ({type(error).__name__})") from None
