"""What a value in a script is, as far as its syntax tells, and what can be computed of it."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


class UnreadableError(ValueError):
    """A source that cannot be read; says why."""


MOST_OPTIONS = 8
"""Values that one name may have."""
LONGEST_TEXT = 10_000
MOST_ITEMS = 1000
LARGEST = 10**9
"""Of what is computed; anything beyond is unknown, so that it cannot grow."""


@dataclass(frozen=True)
class Const:
    """A literal, or what is computed from literals."""

    value: Any


@dataclass(frozen=True)
class Thing:
    """Something of another package, by its path: ``diffusers.DDIMScheduler`` is the class and what
    calling it gives. With an empty path, nothing is known of it.

    Args:
        about: numbers of the pipelines that it was made from.
    """

    path: str = ""
    about: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Pipeline:
    """A loaded pipeline; its attributes are in the state."""

    number: int
    kind: str


@dataclass(frozen=True)
class Items:
    """A list or a tuple; `row` makes one.

    Args:
        weight: how many values there are in it, in all.
    """

    items: tuple[Value, ...]
    weight: int


@dataclass(frozen=True)
class Table:
    """A dict whose keys are known; `updated` makes one."""

    items: tuple[tuple[Any, Value], ...]
    weight: int = 0


@dataclass(frozen=True, eq=False)
class Function:
    """A function or a method of the script.

    Args:
        scope: in which it was defined.
        defaults: by parameter.
        owner: what ``self`` is.
    """

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: int
    defaults: dict[str, Value]
    owner: Value | None = None


@dataclass(frozen=True, eq=False)
class Partial:
    """A function with some of its arguments."""

    function: Value
    arguments: Arguments


@dataclass(frozen=True, eq=False)
class Suspended:
    """A call of a generator function: nothing of it has run."""

    function: Function
    arguments: Arguments


@dataclass(frozen=True, eq=False)
class Class:
    """A class of the script.

    Args:
        unseen: names of methods that may be called without being named.
    """

    methods: dict[str, Function]
    number: int
    unseen: tuple[str, ...] = ()
    node: ast.ClassDef | None = None


@dataclass(frozen=True)
class Instance:
    """What calling a class of the script gives; its attributes are in the state."""

    kind: Class
    number: int


@dataclass(frozen=True)
class Made:
    """A call that was made: not what it gave."""

    arguments: Arguments
    line: int


@dataclass(frozen=True)
class Either:
    """Any of these."""

    options: tuple[Value, ...]


Value = (
    Const
    | Thing
    | Pipeline
    | Items
    | Table
    | Function
    | Partial
    | Suspended
    | Class
    | Instance
    | Made
    | Either
)
UNKNOWN = Thing()
OWN = Const("the model's own scheduler")


@dataclass(frozen=True)
class Arguments:
    """Of a call.

    Args:
        open: whether there may be others that the syntax does not tell.
    """

    positional: tuple[Value, ...] = ()
    named: dict[str, Value] = field(default_factory=dict)
    open: bool = False

    def get(self, name: str, place: int | None = None) -> Value | None:
        """An argument by name or by place; unknown where it may be among the untold ones."""
        if name in self.named:
            return self.named[name]
        if place is not None and place < len(self.positional):
            return self.positional[place]
        return UNKNOWN if self.open else None

    def all(self) -> tuple[Value, ...]:
        return (*self.positional, *self.named.values())

    def any_numbers(self) -> Arguments:
        """The same with unknown values in place of constants."""
        named = {name: loosened(value) for name, value in self.named.items()}
        return Arguments(tuple(map(loosened, self.positional)), named, self.open)


def loosened(value: Value, before: Value | None = None) -> Value:
    """What a value may be another time: of constants, and of what holds them, that is not known.

    Args:
        before: what it was; what it has of that still, it has another time, too.
    """
    if value == before or own_code([value]):
        return value
    if isinstance(value, Table) and isinstance(before, Table):
        known = dict(before.items)
        items = {key: loosened(each, known.get(key, each)) for key, each in value.items}
        return updated(Table(()), items)
    if isinstance(value, Const | Items | Table | Either):
        return Thing("", about_of([value]))
    return value


def _weight(values: Iterable[Value]) -> int:
    return sum(1 + (each.weight if isinstance(each, Items | Table) else 0) for each in values)


def row(values: Iterable[Value]) -> Value:
    """A list of values; unknown where it is too large, since lists of lists of lists grow fast."""
    items = tuple(values)
    weight = _weight(items)
    return Items(items, weight) if weight <= MOST_ITEMS else Thing("", about_of(items))


def text_of(value: Value) -> str | None:
    """A constant as text, where it is a short one."""
    known = value.value if isinstance(value, Const) else None
    if isinstance(known, str):
        return known if len(known) < LONGEST_TEXT else None
    # A number of very many digits has no text.
    return str(known) if isinstance(known, int | float) and abs(known) < LARGEST else None


def options(value: Value) -> tuple[Value, ...]:
    """All values that it may be."""
    return value.options if isinstance(value, Either) else (value,)


def either(values: Iterable[Value]) -> Value:
    """Any of these values."""
    found: list[Value] = []
    for value in values:
        found += [each for each in options(value) if each not in found]
    if len(found) == 1:
        return found[0]
    if len(found) > MOST_OPTIONS and own_code(found):
        raise UnreadableError(f"a name may be any of {len(found)} functions: write it more simply")
    if not 0 < len(found) <= MOST_OPTIONS:
        return Thing("", about_of(found))
    return Either(tuple(found))


def about_of(values: Iterable[Value]) -> frozenset[int]:
    """The pipelines in values."""
    found: set[int] = set()
    for value in values:
        if isinstance(value, Pipeline):
            found.add(value.number)
        elif isinstance(value, Thing):
            found |= value.about
        elif isinstance(value, Either):
            found |= about_of(value.options)
        elif isinstance(value, Items):
            found |= about_of(value.items)
        elif isinstance(value, Table):
            found |= about_of(each for _, each in value.items)
        elif isinstance(value, Partial | Suspended):
            found |= about_of(value.arguments.all())
    return frozenset(found)


def own_code(values: Iterable[Value]) -> list[Value]:
    """What is in values that others may call, of the script's own."""
    found: list[Value] = []
    for value in values:
        if isinstance(value, Function | Partial | Suspended | Class | Instance):
            found.append(value)
        elif isinstance(value, Either):
            found += own_code(value.options)
        elif isinstance(value, Items):
            found += own_code(value.items)
        elif isinstance(value, Table):
            found += own_code(each for _, each in value.items)
    return found


def truth_of(value: Value) -> bool | None:
    """Whether a value is true, where that is known."""
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, Items | Table):
        return bool(value.items)
    return None if isinstance(value, Thing | Either) else True


def items_of(value: Value) -> list[Value]:
    """What looping over a value gives; one unknown item where that is not known."""
    if isinstance(value, Items):
        return list(value.items)
    if isinstance(value, Table):
        return [Const(key) for key, _ in value.items]
    if isinstance(value, Const) and not value.value:
        return []
    return [Thing("", about_of([value]))]


def unpacked(value: Value, count: int) -> list[Value]:
    if isinstance(value, Items) and len(value.items) == count:
        return list(value.items)
    if isinstance(value, Either):
        rows = [unpacked(each, count) for each in value.options]
        return [either(column) for column in zip(*rows, strict=True)]
    return [Thing("", about_of([value]))] * count


def updated(table: Value, more: dict[Any, Value]) -> Value:
    if not isinstance(table, Table):
        return UNKNOWN
    items = dict(table.items) | more
    weight = _weight(items.values())
    return Table(tuple(items.items()), weight) if weight <= MOST_ITEMS else UNKNOWN


def after_update(table: Table, arguments: Arguments) -> Value:
    found: Value = UNKNOWN if arguments.open else table
    for each in arguments.positional:
        found = updated(found, dict(each.items)) if isinstance(each, Table) else UNKNOWN
    return updated(found, arguments.named)


def computed(op: ast.operator, left: Value, right: Value) -> Value:
    """Sums of small numbers and of short texts; nothing that could grow."""
    if isinstance(left, Items) and isinstance(right, Items) and isinstance(op, ast.Add):
        return row((*left.items, *right.items))
    if not isinstance(left, Const) or not isinstance(right, Const):
        return Thing("", about_of([left, right]))
    a, b = left.value, right.value
    if isinstance(a, str) and isinstance(b, str) and isinstance(op, ast.Add):
        return Const(a + b) if len(a) + len(b) < LONGEST_TEXT else UNKNOWN
    numbers = all(isinstance(each, int | float) and abs(each) < LARGEST for each in (a, b))
    how = _ARITHMETIC.get(type(op))
    if not numbers or how is None:
        return UNKNOWN
    with contextlib.suppress(ZeroDivisionError, OverflowError):
        return Const(how(a, b))
    return UNKNOWN


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}


def compared(op: ast.cmpop, left: Value, right: Value) -> Value:
    how = _COMPARISONS.get(type(op))
    if how is None:
        return UNKNOWN
    if isinstance(left, Const) and isinstance(right, Const):
        with contextlib.suppress(TypeError):
            return Const(bool(how(left.value, right.value)))
        return UNKNOWN
    known = all(not isinstance(each, Thing | Either) for each in (left, right))
    if known and isinstance(op, ast.Is | ast.IsNot):  # None, and what is not None
        return Const(isinstance(op, ast.IsNot))
    return UNKNOWN
