"""The ways that a script may go: where they part and meet, and what is known on each."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffaccel.benchmark.judge.syntax.values import (
    Arguments,
    UnreadableError,
    Value,
    either,
    loosened,
)

MOST_WORK = 200_000
"""Nodes that are followed, and values that are copied where ways part."""

State = dict[tuple[Any, ...], Value]


class Stops(Exception):
    """What is being followed goes no further: it raises or exits."""


@dataclass
class Frame:
    """A function while it is followed."""

    scope: int
    returned: list[Value] = field(default_factory=list)
    exits: list[State] = field(default_factory=list)
    broken: list[list[State]] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)
    on_yield: Callable[[Value], None] | None = None


class Ways:
    """What is known at the place that is followed, and the work that it took to get there.

    Above this come pipelines, names, calls, expressions and statements, each in a file, each built
    on those before it; what these ask of the ones above is declared here.
    """

    def __init__(self) -> None:
        self._state: State = {}
        self._parents: dict[int, int | None] = {0: None}
        self._numbers = 0
        self._work = 0
        self._line = 0
        self._active: list[ast.AST] = []
        """Functions that are followed, the outermost first."""

    def _block(self, statements: Sequence[ast.stmt], frame: Frame) -> bool:
        """Follows statements; whether what comes after them is reached."""
        raise NotImplementedError

    def _value(self, node: ast.expr, frame: Frame) -> Value:
        """What an expression gives."""
        raise NotImplementedError

    def _call(self, function: Value, arguments: Arguments) -> Value:
        """What a call gives."""
        raise NotImplementedError

    def _hand_over(self, values: Iterable[Value]) -> None:
        """What other packages are given, they may call."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            yield
        except RecursionError:
            raise UnreadableError("it is nested too deeply to be read") from None

    def _charge(self, work: int) -> None:
        self._work += work
        if self._work > MOST_WORK:
            raise UnreadableError("there is too much of it to be read: write it more simply")

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _copy(self, state: State) -> State:
        self._charge(1 + len(state) // 10)
        return dict(state)

    def _loosen(self, before: State) -> bool:
        """Has what has changed since, and may change again, be unknown; whether there is any."""
        self._charge(1 + len(before) // 10)
        changed = {
            key: loosened(value, before.get(key))
            for key, value in self._state.items()
            if key[0] in ("name", "attribute") and before.get(key) is not value
        }
        changed = {k: v for k, v in changed.items() if k in before and v is not self._state[k]}
        self._state.update(changed)
        return bool(changed)

    def _meet(self, states: Sequence[State]) -> None:
        """Goes on from any of these states."""
        first, *others = states
        merged = dict(first)
        for other in others:
            self._charge(1 + len(other) // 10)
            for key, value in other.items():
                mine = merged.get(key)
                merged[key] = value if mine is None or mine is value else either((mine, value))
        self._state = merged

    def _ways(self, ways: Sequence[Callable[[], bool]]) -> bool:
        """Follows each from here; whether any goes on."""
        start, ends = self._state, []
        for way in ways:
            self._state = self._copy(start)
            if way():
                ends.append(self._state)
        self._state = start
        if ends:
            self._meet(ends)
        return bool(ends)
