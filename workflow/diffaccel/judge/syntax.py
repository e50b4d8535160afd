"""What a script does when it is called, as far as its syntax tree tells; nothing of it is run.

The tree is followed as Python would run it: the module from top to bottom, then the functions that
are asked for, and whatever they call. Names, imports, constants, arguments and attributes have
values where the syntax tells them, and are unknown where it does not. What cannot be reached
(behind a ``return``, under ``if False``, in a function that nobody calls) does not count. Where a
condition is unknown both branches are followed: what one of them does may have been done, and a
value is any of what they give.

Reading is bounded, whatever the source: see `MOST_WORK` and `DEEPEST`.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from diffaccel.judge.values import (
    LONGEST_TEXT,
    OWN,
    UNKNOWN,
    Arguments,
    Class,
    Const,
    Either,
    Function,
    Instance,
    Items,
    Partial,
    Pipeline,
    Suspended,
    Table,
    Thing,
    Value,
    about_of,
    after_update,
    compared,
    computed,
    either,
    items_of,
    options,
    row,
    text_of,
    truth_of,
    unpacked,
    updated,
)

LONGEST = 200_000
"""Bytes of source that are read."""
MOST_WORK = 200_000
"""Nodes that are followed, and values that are copied where ways part."""
DEEPEST = 40
"""Calls within calls that are followed."""
LOADERS = ("from_pretrained", "from_single_file", "from_pipe")
GENERAL = ("DiffusionPipeline", "AutoPipelineForText2Image")
"""Classes that load a pipeline of whatever class the model says."""
PIPELINES = ("Pipeline", *GENERAL)
"""How names of classes end that are pipelines."""
PIPE = "pipe"
"""What paths from a loaded pipeline begin with."""
LONGEST_PATH = 200
PROPERTIES = {"property", "cached_property"}
ENDS = ("sys.exit", "os._exit", "os.abort", "exit", "quit")


State = dict[tuple[Any, ...], Value]


class UnreadableError(ValueError):
    """A source that cannot be read; says why."""


@dataclass(frozen=True)
class Drawing:
    """A call of a pipeline.

    Args:
        kind: class of the pipeline.
        source: what it was loaded from.
        scheduler: what it samples with.
        arguments: of the call.
        done: what was called with this pipeline before, by path; an assignment ends in ``=``.
        through: name of the method that was called, or empty where it was the pipeline itself.
        line: in the source.
    """

    kind: str
    source: Value
    scheduler: Value
    arguments: Arguments
    done: frozenset[str]
    through: str
    line: int


def plain(path: str) -> str:
    """A path as after ``from package import Name``: submodules before a class are left out."""
    first, *rest = path.split(".")
    while len(rest) > 1 and rest[0].islower() and any(not part.islower() for part in rest[1:]):
        rest = rest[1:]
    return ".".join([first, *rest])


def imported(path: str) -> Thing:
    """What an import gives; nothing that could be taken for a pipeline."""
    return UNKNOWN if path.split(".")[0] == PIPE else Thing(plain(path))


class _Stops(Exception):
    """What is being followed goes no further: it raises or exits."""


@dataclass
class _Frame:
    """A function while it is followed."""

    scope: int
    returned: list[Value] = field(default_factory=list)
    exits: list[State] = field(default_factory=list)
    broken: list[list[State]] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)
    on_yield: Callable[[Value], None] | None = None


class Script:
    """A script that is followed.

    Args:
        source: as in the file.
        undone_by: path of a call -> paths of calls that it undoes.
        draws: names of methods of a pipeline that draw as calling it does.

    Raises:
        UnreadableError: it is not Python, or there is too much of it.
    """

    def __init__(
        self, source: bytes, undone_by: Mapping[str, Collection[str]], draws: Collection[str]
    ) -> None:
        self._undone_by, self._draws = undone_by, draws
        self._pipelines: dict[int, Pipeline] = {}
        self._state: State = {}
        self._parents: dict[int, int | None] = {0: None}
        self._numbers = 0
        self._work = 0
        self._line = 0
        self._active: list[ast.AST] = []
        self._generators: dict[ast.AST, bool] = {}
        self.drawings: list[Drawing] = []
        """Calls of pipelines, in the order in which they were reached."""
        self.ends = False
        """Whether reading the module raises or exits."""
        tree = _parse(source)
        with self._bounded():
            self.ends = not self._block(tree.body, _Frame(0))

    def function(self, name: str) -> Function | None:
        """A function at the top of the module."""
        found = self._state.get(("name", 0, name), UNKNOWN)
        return next((each for each in options(found) if isinstance(each, Function)), None)

    def call(self, function: Function, arguments: Sequence[Value]) -> Value | None:
        """Follows a function; gives what it returns, or None where it only raises or exits."""
        with self._bounded(), contextlib.suppress(_Stops):
            return self._call(function, Arguments(tuple(arguments)))
        return None

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

    # Ways that part and meet

    def _copy(self, state: State) -> State:
        self._charge(1 + len(state) // 10)
        return dict(state)

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

    # Statements

    def _block(self, statements: Sequence[ast.stmt], frame: _Frame) -> bool:
        """Follows statements; whether what comes after them is reached."""
        for statement in statements:
            self._charge(1)
            self._line = statement.lineno
            try:
                if not self._statement(statement, frame):
                    return False
            except _Stops:
                return False
        return True

    def _statement(self, node: ast.stmt, frame: _Frame) -> bool:
        follow = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        if follow is not None:
            return follow(node, frame) is not False
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._value(child, frame)
        return True

    def _do_expr(self, node: ast.Expr, frame: _Frame) -> None:
        self._value(node.value, frame)

    def _do_return(self, node: ast.Return, frame: _Frame) -> bool:
        frame.returned.append(self._value(node.value, frame) if node.value else Const(None))
        frame.exits.append(self._copy(self._state))
        return False

    def _do_raise(self, node: ast.Raise, frame: _Frame) -> bool:
        raise _Stops

    def _do_break(self, node: ast.Break | ast.Continue, frame: _Frame) -> bool:
        if frame.broken:
            frame.broken[-1].append(self._copy(self._state))
        return False

    _do_continue = _do_break

    def _do_assert(self, node: ast.Assert, frame: _Frame) -> bool:
        return truth_of(self._value(node.test, frame)) is not False

    def _do_import(self, node: ast.Import, frame: _Frame) -> None:
        for alias in node.names:
            path = alias.name if alias.asname else alias.name.split(".")[0]
            self._bind(alias.asname or path, imported(path), frame)

    def _do_importfrom(self, node: ast.ImportFrom, frame: _Frame) -> None:
        for alias in node.names:
            whole = UNKNOWN if node.level else imported(f"{node.module}.{alias.name}")
            if alias.name != "*":
                self._bind(alias.asname or alias.name, whole, frame)

    def _do_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, frame: _Frame) -> None:
        self._bind(node.name, self._function(node, frame), frame)

    _do_asyncfunctiondef = _do_functiondef

    def _do_classdef(self, node: ast.ClassDef, frame: _Frame) -> None:
        made = Class({}, self._number())
        for each in node.body:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                made.methods[each.name] = self._function(each, frame)
            elif isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
                targets = each.targets if isinstance(each, ast.Assign) else [each.target]
                value = self._value(each.value, frame)
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._state[("attribute", made.number, target.id)] = value
        self._bind(node.name, made, frame)

    def _do_global(self, node: ast.Global, frame: _Frame) -> None:
        frame.outside.update(dict.fromkeys(node.names, 0))

    def _do_nonlocal(self, node: ast.Nonlocal, frame: _Frame) -> None:
        outer = self._parents[frame.scope] or 0
        frame.outside.update({name: self._holder(name, outer) for name in node.names})

    def _do_assign(self, node: ast.Assign, frame: _Frame) -> None:
        value = self._value(node.value, frame)
        for target in node.targets:
            self._assign(target, value, frame)

    def _do_annassign(self, node: ast.AnnAssign, frame: _Frame) -> None:
        if node.value is not None:
            self._assign(node.target, self._value(node.value, frame), frame)

    def _do_augassign(self, node: ast.AugAssign, frame: _Frame) -> None:
        value = self._value(node.value, frame)
        before: Value = UNKNOWN
        if isinstance(node.target, ast.Name):
            before = self._look_up(node.target.id, frame)
        self._assign(node.target, computed(node.op, before, value), frame)

    def _do_delete(self, node: ast.Delete, frame: _Frame) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._bind(target.id, UNKNOWN, frame)

    def _do_if(self, node: ast.If, frame: _Frame) -> bool:
        truth = truth_of(self._value(node.test, frame))
        if truth is not None:
            return self._block(node.body if truth else node.orelse, frame)
        return self._ways(
            [lambda: self._block(node.body, frame), lambda: self._block(node.orelse, frame)]
        )

    def _do_match(self, node: ast.Match, frame: _Frame) -> bool:
        self._value(node.subject, frame)
        ways = [partial(self._block, case.body, frame) for case in node.cases]
        return self._ways([*ways, lambda: True])

    def _do_while(self, node: ast.While, frame: _Frame) -> bool:
        truth = truth_of(self._value(node.test, frame))
        if truth is False:
            return self._block(node.orelse, frame)
        return self._loop(node.body, frame, endless=truth is True)

    def _do_for(self, node: ast.For | ast.AsyncFor, frame: _Frame) -> bool:
        found = self._value(node.iter, frame)
        if isinstance(found, Suspended):
            with contextlib.suppress(_Stops):  # as one does that never ends
                self._resume(found, lambda value: self._once(node, value, frame))
            return True
        items = items_of(found)
        if not items:
            return self._block(node.orelse, frame)
        self._assign(node.target, either(items), frame)
        return self._loop(node.body, frame, endless=False)

    _do_asyncfor = _do_for

    def _once(self, node: ast.For | ast.AsyncFor, value: Value, frame: _Frame) -> None:
        self._assign(node.target, value, frame)
        self._loop(node.body, frame, endless=False)

    def _loop(self, body: Sequence[ast.stmt], frame: _Frame, *, endless: bool) -> bool:
        frame.broken.append([])
        goes_on = self._block(body, frame)
        ends = frame.broken.pop()
        if goes_on and not (endless and not ends):
            ends.append(self._state)
        if ends:
            self._meet(ends)
        return bool(ends)

    def _do_try(self, node: ast.Try, frame: _Frame) -> bool:
        start, before = self._copy(self._state), len(frame.exits)
        went_on = self._block(node.body, frame) and self._block(node.orelse, frame)
        after = self._state
        ends = [after] if went_on else []
        for handler in node.handlers:
            self._meet([start, after])
            if handler.name:
                self._bind(handler.name, UNKNOWN, frame)
            if self._block(handler.body, frame):
                ends.append(self._state)
        if node.finalbody and len(frame.exits) > before:  # a return goes through it, too
            self._meet(frame.exits[before:])
            del frame.exits[before:]
            if self._block(node.finalbody, frame):
                frame.exits.append(self._state)
        self._meet(ends or [after])
        return self._block(node.finalbody, frame) and bool(ends)

    _do_trystar = _do_try

    def _do_with(self, node: ast.With | ast.AsyncWith, frame: _Frame) -> bool:
        return self._within(list(node.items), node.body, frame)

    _do_asyncwith = _do_with

    def _within(self, items: list[ast.withitem], body: Sequence[ast.stmt], frame: _Frame) -> bool:
        if not items:
            return self._block(body, frame)
        item, rest = items[0], items[1:]
        goes_on: list[bool] = []
        before = len(frame.exits)

        def inside(value: Value) -> None:
            if item.optional_vars is not None:
                self._assign(item.optional_vars, value, frame)
            goes_on.append(self._within(rest, body, frame))

        found = self._value(item.context_expr, frame)
        if isinstance(found, Suspended):
            self._resume(found, inside)
        elif isinstance(found, Instance) and "__enter__" in found.kind.methods:
            inside(self._call(self._attribute(found, "__enter__"), Arguments()))
            self._call(self._attribute(found, "__exit__"), Arguments(open=True))
        else:
            inside(found)
            return any(goes_on)
        if len(frame.exits) > before:  # a return leaves the context, too
            frame.exits[before:] = [self._copy(self._state)]
        return any(goes_on)

    # Names and attributes

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, frame: _Frame
    ) -> Function:
        own = node.args
        places = [*own.posonlyargs, *own.args]
        pairs = [*zip(places[len(places) - len(own.defaults) :], own.defaults, strict=True)]
        pairs += [(a, d) for a, d in zip(own.kwonlyargs, own.kw_defaults, strict=True) if d]
        defaults = {argument.arg: self._value(default, frame) for argument, default in pairs}
        return Function(node, frame.scope, defaults)

    def _holder(self, name: str, scope: int | None) -> int:
        while scope is not None and ("name", scope, name) not in self._state:
            scope = self._parents[scope]
        return scope or 0

    def _look_up(self, name: str, frame: _Frame) -> Value:
        scope = self._holder(name, frame.outside.get(name, frame.scope))
        found = self._state.get(("name", scope, name))
        if found is not None:
            return found
        if name == "__name__":
            return Const("judged")
        return Thing(name) if hasattr(builtins, name) else UNKNOWN

    def _bind(self, name: str, value: Value, frame: _Frame) -> None:
        self._state[("name", frame.outside.get(name, frame.scope), name)] = value

    def _assign(self, target: ast.expr, value: Value, frame: _Frame) -> None:
        self._charge(1)
        if isinstance(target, ast.Name):
            self._bind(target.id, value, frame)
        elif isinstance(target, ast.Starred):
            self._assign(target.value, UNKNOWN, frame)
        elif isinstance(target, ast.Tuple | ast.List):
            items = unpacked(value, len(target.elts))
            for each, item in zip(target.elts, items, strict=True):
                self._assign(each, item, frame)
        elif isinstance(target, ast.Attribute):
            self._set(self._value(target.value, frame), target.attr, value)
            if isinstance(target.value, ast.Attribute):
                owners = options(self._value(target.value.value, frame))
                about = frozenset(each.number for each in owners if isinstance(each, Pipeline))
                self._note(f"{PIPE}.{target.value.attr}.{target.attr}=" if about else "", about)
        elif isinstance(target, ast.Subscript):
            self._set_item(target, value, frame)

    def _set(self, owner: Value, name: str, value: Value) -> None:
        for each in options(owner):
            if isinstance(each, Pipeline | Instance | Class):
                self._state[("attribute", each.number, name)] = value
            if isinstance(each, Pipeline):
                self._note(f"{PIPE}.{name}=", frozenset([each.number]))
            elif isinstance(each, Thing) and each.path:
                self._note(f"{each.path}.{name}=", each.about)
            if isinstance(each, Pipeline | Thing):
                self._hand_over([value])

    def _set_item(self, target: ast.Subscript, value: Value, frame: _Frame) -> None:
        table = self._value(target.value, frame)
        key = self._value(target.slice, frame)
        if isinstance(target.value, ast.Name):
            known = isinstance(table, Table) and isinstance(key, Const)
            new = updated(table, {key.value: value}) if known else UNKNOWN  # type: ignore[union-attr]
            self._bind(target.value.id, new, frame)

    def _attribute(self, owner: Value, name: str) -> Value:
        if isinstance(owner, Either):
            return either(self._attribute(each, name) for each in owner.options)
        if isinstance(owner, Pipeline | Instance | Class):
            known = self._state.get(("attribute", owner.number, name))
            if known is not None:
                return known
        if isinstance(owner, Pipeline):
            return Thing(f"{PIPE}.{name}", frozenset([owner.number]))
        if isinstance(owner, Instance):
            return self._member(owner, name)
        if isinstance(owner, Class):
            return owner.methods.get(name, UNKNOWN)
        if isinstance(owner, Thing):
            short = 0 < len(owner.path) < LONGEST_PATH
            return Thing(plain(f"{owner.path}.{name}") if short else "", owner.about)
        return Thing("", about_of([owner]))

    def _member(self, owner: Instance, name: str) -> Value:
        method = owner.kind.methods.get(name)
        if method is None:
            return self._state.get(("attribute", owner.kind.number, name), UNKNOWN)
        kinds = {_last_name(each) for each in getattr(method.node, "decorator_list", [])}
        if "staticmethod" in kinds:
            return method
        first = owner.kind if "classmethod" in kinds else owner
        bound = Function(method.node, method.scope, method.defaults, first)
        return self._call(bound, Arguments()) if kinds & PROPERTIES else bound

    # Expressions

    def _value(self, node: ast.expr, frame: _Frame) -> Value:
        self._charge(1)
        follow = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if follow is not None:
            found: Value = follow(node, frame)
            return found
        parts = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        return Thing("", about_of([self._value(each, frame) for each in parts]))

    def _of_constant(self, node: ast.Constant, frame: _Frame) -> Value:
        return Const(node.value)

    def _of_name(self, node: ast.Name, frame: _Frame) -> Value:
        return self._look_up(node.id, frame)

    def _of_attribute(self, node: ast.Attribute, frame: _Frame) -> Value:
        return self._attribute(self._value(node.value, frame), node.attr)

    def _of_namedexpr(self, node: ast.NamedExpr, frame: _Frame) -> Value:
        value = self._value(node.value, frame)
        self._assign(node.target, value, frame)
        return value

    def _of_lambda(self, node: ast.Lambda, frame: _Frame) -> Value:
        return self._function(node, frame)

    def _of_await(self, node: ast.Await, frame: _Frame) -> Value:
        return self._value(node.value, frame)

    def _of_yield(self, node: ast.Yield, frame: _Frame) -> Value:
        value = self._value(node.value, frame) if node.value else Const(None)
        if frame.on_yield is not None:
            frame.on_yield(value)
        return UNKNOWN

    def _of_yieldfrom(self, node: ast.YieldFrom, frame: _Frame) -> Value:
        value = self._value(node.value, frame)
        if isinstance(value, Suspended):
            self._resume(value, frame.on_yield or (lambda value: None))
        elif frame.on_yield is not None:
            frame.on_yield(UNKNOWN)
        return UNKNOWN

    def _of_list(self, node: ast.List | ast.Tuple, frame: _Frame) -> Value:
        items: list[Value] = []
        for each in node.elts:
            if isinstance(each, ast.Starred):
                items += items_of(self._value(each.value, frame))
            else:
                items.append(self._value(each, frame))
        return row(items)

    _of_tuple = _of_list

    def _of_dict(self, node: ast.Dict, frame: _Frame) -> Value:
        table: Value = Table(())
        for key, value in zip(node.keys, node.values, strict=True):
            known = self._value(key, frame) if key is not None else None
            given = self._value(value, frame)
            if isinstance(known, Const):
                table = updated(table, {known.value: given})
            elif known is None and isinstance(given, Table):
                table = updated(table, dict(given.items))
            else:
                return UNKNOWN
        return table

    def _of_subscript(self, node: ast.Subscript, frame: _Frame) -> Value:
        owner, key = self._value(node.value, frame), self._value(node.slice, frame)
        if isinstance(key, Const):
            with contextlib.suppress(KeyError, IndexError, TypeError):
                if isinstance(owner, Table):
                    return dict(owner.items)[key.value]
                if isinstance(owner, Items):
                    return owner.items[key.value]
        return Thing("", about_of([owner]))

    def _of_ifexp(self, node: ast.IfExp, frame: _Frame) -> Value:
        truth = truth_of(self._value(node.test, frame))
        chosen = {None: [node.body, node.orelse], True: [node.body], False: [node.orelse]}[truth]
        return self._any(chosen, frame)

    def _any(self, nodes: Sequence[ast.expr], frame: _Frame) -> Value:
        """The value of one of these; what it does may have been done."""
        if len(nodes) == 1:
            return self._value(nodes[0], frame)
        values: list[Value] = []

        def way(node: ast.expr) -> bool:
            with contextlib.suppress(_Stops):
                values.append(self._value(node, frame))
                return True
            return False

        if not self._ways([partial(way, node) for node in nodes]):
            raise _Stops
        return either(values)

    def _of_boolop(self, node: ast.BoolOp, frame: _Frame) -> Value:
        stop = isinstance(node.op, ast.Or)
        first, *rest = node.values
        value = self._value(first, frame)
        for each in rest:
            truth = truth_of(value)
            if truth is stop:
                return value
            if truth is None:
                nothing = ast.copy_location(ast.Constant(None), each)
                value = either([value, self._any([each, nothing], frame)])
                value = Thing("", about_of([value]))
            else:
                value = self._value(each, frame)
        return value

    def _of_unaryop(self, node: ast.UnaryOp, frame: _Frame) -> Value:
        value = self._value(node.operand, frame)
        if isinstance(node.op, ast.Not):
            truth = truth_of(value)
            return UNKNOWN if truth is None else Const(not truth)
        if isinstance(node.op, ast.USub) and isinstance(value, Const):
            with contextlib.suppress(TypeError):
                return Const(-value.value)
        return UNKNOWN

    def _of_binop(self, node: ast.BinOp, frame: _Frame) -> Value:
        left, right = self._value(node.left, frame), self._value(node.right, frame)
        return computed(node.op, left, right)

    def _of_compare(self, node: ast.Compare, frame: _Frame) -> Value:
        values = [self._value(each, frame) for each in (node.left, *node.comparators)]
        if len(values) != 2:
            return UNKNOWN
        return compared(node.ops[0], *values)

    def _of_joinedstr(self, node: ast.JoinedStr, frame: _Frame) -> Value:
        text = ""
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self._value(part.value, frame)
                plain_part = part.format_spec is None and part.conversion == -1
            else:
                value, plain_part = self._value(part, frame), True
            known = text_of(value) if plain_part else None
            if known is None or len(text) > LONGEST_TEXT:
                return UNKNOWN
            text += known
        return Const(text)

    def _of_listcomp(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, frame: _Frame
    ) -> Value:
        self._bind_comprehension(node.generators, frame)
        return row([self._value(node.elt, frame)])

    _of_setcomp = _of_listcomp
    _of_generatorexp = _of_listcomp

    def _of_dictcomp(self, node: ast.DictComp, frame: _Frame) -> Value:
        self._bind_comprehension(node.generators, frame)
        self._value(node.key, frame)
        return Thing("", about_of([self._value(node.value, frame)]))

    def _bind_comprehension(self, generators: Sequence[ast.comprehension], frame: _Frame) -> None:
        for each in generators:
            items = items_of(self._value(each.iter, frame))
            self._assign(each.target, either(items or [UNKNOWN]), frame)
            for test in each.ifs:
                self._value(test, frame)

    # Calls

    def _of_call(self, node: ast.Call, frame: _Frame) -> Value:
        function = self._value(node.func, frame)
        arguments = self._arguments(node, frame)
        self._line = node.lineno
        if isinstance(function, Thing) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and node.func.attr == "update":
                table = self._look_up(owner.id, frame)
                if isinstance(table, Table):
                    self._bind(owner.id, after_update(table, arguments), frame)
        return self._call(function, arguments)

    def _arguments(self, node: ast.Call, frame: _Frame) -> Arguments:
        positional: list[Value] = []
        named: dict[str, Value] = {}
        untold = False
        for each in node.args:
            if isinstance(each, ast.Starred):
                value = self._value(each.value, frame)
                known = isinstance(value, Items)
                positional += items_of(value) if known else []
                untold |= not known
            else:
                positional.append(self._value(each, frame))
        for keyword in node.keywords:
            value = self._value(keyword.value, frame)
            if keyword.arg is not None:
                named[keyword.arg] = value
            elif isinstance(value, Table):
                named.update({str(key): item for key, item in value.items})
            else:
                untold = True
        return Arguments(tuple(positional), named, untold)

    def _call(self, function: Value, arguments: Arguments) -> Value:
        self._charge(1)
        if isinstance(function, Either):
            return either([self._call(each, arguments) for each in function.options])
        if isinstance(function, Function):
            return self._invoke(function, arguments)
        if isinstance(function, Partial):
            given = function.arguments
            whole = Arguments(
                (*given.positional, *arguments.positional),
                given.named | arguments.named,
                given.open or arguments.open,
            )
            return self._call(function.function, whole)
        if isinstance(function, Class):
            made = Instance(function, self._number())
            if "__init__" in function.methods:
                self._call(self._attribute(made, "__init__"), arguments)
            return made
        if isinstance(function, Instance):
            return self._call(self._attribute(function, "__call__"), arguments)
        if isinstance(function, Pipeline):
            return self._draw(function, "", arguments)
        if isinstance(function, Thing):
            return self._call_thing(function, arguments)
        return UNKNOWN

    def _call_thing(self, function: Thing, arguments: Arguments) -> Value:
        path, given = function.path, arguments.all()
        if path in ENDS:
            raise _Stops
        about = function.about | about_of(given)
        self._note(path, about)
        head, _, last = path.rpartition(".")
        if head == PIPE:
            return self._call_method(function, last, arguments)
        if last in LOADERS and head.startswith("diffusers.") and head.endswith(PIPELINES):
            return self._load(head.removeprefix("diffusers."), arguments)
        special = getattr(self, f"_calling_{path.replace('.', '_')}", None)
        if special is not None:
            found: Value = special(arguments)
            return found
        functions = [each for each in given if isinstance(each, Function | Partial)]
        if len(given) == len(functions) == 1:  # as a decorator does
            return given[0]
        self._hand_over(given)
        made = Thing(path, about)
        # What is made of a pipeline may be the pipeline itself: T-Gate's loaders give it back.
        pipelines = [each for each in arguments.positional if isinstance(each, Pipeline)]
        return either([made, *pipelines[:1]])

    def _call_method(self, method: Thing, name: str, arguments: Arguments) -> Value:
        number = min(method.about)
        pipeline = self._pipelines[number]
        if name == "__call__" or name in self._draws:
            return self._draw(pipeline, name.strip("_").removeprefix("call"), arguments)
        self._hand_over(arguments.all())
        return pipeline

    def _calling_functools_partial(self, arguments: Arguments) -> Value:
        if not arguments.positional:
            return UNKNOWN
        first, *rest = arguments.positional
        return Partial(first, Arguments(tuple(rest), arguments.named, arguments.open))

    def _calling_dict(self, arguments: Arguments) -> Value:
        table: Value = Table(())
        for each in arguments.positional:
            table = updated(table, dict(each.items)) if isinstance(each, Table) else UNKNOWN
        if arguments.open or not isinstance(table, Table):
            return UNKNOWN
        return updated(table, arguments.named)

    def _calling_int(self, arguments: Arguments) -> Value:
        value = arguments.positional[0] if arguments.positional else UNKNOWN
        text = text_of(value)
        if text is not None and len(text) < 20:
            with contextlib.suppress(ValueError):
                return Const(int(float(text)))
        return UNKNOWN

    def _calling_setattr(self, arguments: Arguments) -> Value:
        if len(arguments.positional) == 3:
            owner, name, value = arguments.positional
            # Of an unknown name it may be the scheduler: that is what matters most.
            self._set(owner, text_of(name) or "scheduler", value if text_of(name) else UNKNOWN)
        return Const(None)

    def _calling_getattr(self, arguments: Arguments) -> Value:
        if len(arguments.positional) >= 2:
            owner, name = arguments.positional[:2]
            known = text_of(name)
            return self._attribute(owner, known) if known else UNKNOWN
        return UNKNOWN

    def _calling_list(self, arguments: Arguments) -> Value:
        for each in arguments.positional:
            if isinstance(each, Items):
                return each
            self._hand_over([each])
        return Thing("", about_of(arguments.positional))

    _calling_tuple = _calling_list
    _calling_next = _calling_list

    def _hand_over(self, values: Iterable[Value]) -> None:
        """What other packages are given, they may call."""
        for value in values:
            if isinstance(value, Suspended):
                self._resume(value, lambda value: None)
            if isinstance(value, Function | Partial):
                self._ways([partial(self._tried, value), lambda: True])

    def _tried(self, function: Value) -> bool:
        with contextlib.suppress(_Stops):
            self._call(function, Arguments(open=True))
            return True
        return False

    def _invoke(
        self,
        function: Function,
        arguments: Arguments,
        on_yield: Callable[[Value], None] | None = None,
    ) -> Value:
        if on_yield is None and self._is_generator(function.node):
            return Suspended(function, arguments)
        if len(self._active) >= DEEPEST or self._active.count(function.node) > 1:
            return UNKNOWN
        scope = self._number()
        self._parents[scope] = function.scope
        frame = _Frame(scope, on_yield=on_yield)
        self._bind_parameters(function, arguments, frame)
        self._active.append(function.node)
        try:
            if isinstance(function.node, ast.Lambda):
                return self._value(function.node.body, frame)
            if self._block(function.node.body, frame):
                frame.returned.append(Const(None))
                frame.exits.append(self._state)
        finally:
            self._active.pop()
        if not frame.exits:
            raise _Stops
        self._meet(frame.exits)
        return either(frame.returned)

    def _is_generator(self, node: ast.AST) -> bool:
        if node not in self._generators:
            self._generators[node] = _yields(node)
        return self._generators[node]

    def _resume(self, suspended: Suspended, on_yield: Callable[[Value], None]) -> None:
        """Runs a generator function; what is done with what it yields, is done within."""
        self._invoke(suspended.function, suspended.arguments, on_yield)

    def _bind_parameters(self, function: Function, arguments: Arguments, frame: _Frame) -> None:
        own = function.node.args
        places = [each.arg for each in (*own.posonlyargs, *own.args)]
        given = arguments.positional
        if function.owner is not None:
            given = (function.owner, *given)
        known = dict(zip(places, given, strict=False))
        names = [*places, *(each.arg for each in own.kwonlyargs)]
        known |= {name: arguments.named[name] for name in names if name in arguments.named}
        for name in names:
            default = UNKNOWN if arguments.open else function.defaults.get(name, UNKNOWN)
            self._bind(name, known.get(name, default), frame)
        if own.vararg is not None:
            rest = UNKNOWN if arguments.open else row(given[len(places) :])
            self._bind(own.vararg.arg, rest, frame)
        if own.kwarg is not None:
            more = {name: value for name, value in arguments.named.items() if name not in names}
            table = UNKNOWN if arguments.open else updated(Table(()), more)
            self._bind(own.kwarg.arg, table, frame)

    # Pipelines

    def _load(self, kind: str, arguments: Arguments) -> Value:
        number = self._number()
        names = ("pretrained_model_name_or_path", "pretrained_model_link_or_path")
        named = next((arguments.named[name] for name in names if name in arguments.named), None)
        first = arguments.positional[0] if arguments.positional else UNKNOWN
        source = named or first
        if isinstance(first, Pipeline):  # from_pipe
            source = self._state.get(("source", first.number), UNKNOWN)
        scheduler = arguments.named.get("scheduler") or (UNKNOWN if arguments.open else OWN)
        self._state[("source", number)] = source
        self._state[("attribute", number, "scheduler")] = scheduler
        self._pipelines[number] = Pipeline(number, kind)
        return self._pipelines[number]

    def _note(self, path: str, about: frozenset[int]) -> None:
        """Something was called, or assigned, with these pipelines; without any, it may be all."""
        if not path:
            return
        numbers = about or frozenset([0])
        for number in numbers:
            self._state[("done", path, number)] = Const(True)
        for undone in self._undone_by.get(path, ()):
            for number in numbers:
                self._state.pop(("done", undone, number), None)

    def _draw(self, pipeline: Pipeline, through: str, arguments: Arguments) -> Value:
        number = pipeline.number
        self._charge(1 + len(self._state) // 10)
        done = frozenset(
            key[1] for key in self._state if key[0] == "done" and key[2] in (number, 0)
        )
        self.drawings.append(
            Drawing(
                kind=pipeline.kind,
                source=self._state.get(("source", number), UNKNOWN),
                scheduler=self._state.get(("attribute", number, "scheduler"), UNKNOWN),
                arguments=arguments,
                done=done,
                through=through,
                line=self._line,
            )
        )
        return Thing("", frozenset())


def _parse(source: bytes) -> ast.Module:
    if len(source) > LONGEST:
        raise UnreadableError(f"it has {len(source)} bytes; {LONGEST} are read")
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise UnreadableError(f"it is not Python: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UnreadableError(f"it cannot be read as Python ({type(error).__name__})") from None


def _last_name(node: ast.expr) -> str:
    """``c`` of ``a.b.c``, and of ``c``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _yields(node: ast.AST) -> bool:
    """Whether a function has a ``yield`` of its own."""
    queue = [] if isinstance(node, ast.Lambda) else list(ast.iter_child_nodes(node))
    while queue:
        each = queue.pop()
        if isinstance(each, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            queue += ast.iter_child_nodes(each)
    return False
