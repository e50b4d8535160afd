"""Statements: what each kind does, and whether what follows it is reached."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from functools import partial

from diffaccel.benchmark.judge.syntax.expressions import Expressions
from diffaccel.benchmark.judge.syntax.pipelines import imported
from diffaccel.benchmark.judge.syntax.values import (
    UNKNOWN,
    Arguments,
    Class,
    Const,
    Instance,
    Suspended,
    Thing,
    Value,
    computed,
    either,
    items_of,
    truth_of,
)
from diffaccel.benchmark.judge.syntax.ways import Frame, Stops

SEEN = {"__init__", "__call__", "__enter__", "__exit__"}
"""Methods that are followed where they are called."""
KNOWN_DECORATORS = {"property", "cached_property", "staticmethod", "classmethod", "contextmanager"}


class Statements(Expressions):
    """A method ``_do_<kind of node>`` each; of other kinds only the expressions are followed."""

    def _block(self, statements: Sequence[ast.stmt], frame: Frame) -> bool:
        for statement in statements:
            self._charge(1)
            self._line = statement.lineno
            try:
                if not self._statement(statement, frame):
                    return False
            except Stops:
                return False
        return True

    def _statement(self, node: ast.stmt, frame: Frame) -> bool:
        follow = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        if follow is not None:
            return follow(node, frame) is not False
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._value(child, frame)
        return True

    def _do_expr(self, node: ast.Expr, frame: Frame) -> None:
        self._value(node.value, frame)

    def _do_return(self, node: ast.Return, frame: Frame) -> bool:
        frame.returned.append(self._value(node.value, frame) if node.value else Const(None))
        frame.exits.append(self._copy(self._state))
        return False

    def _do_raise(self, node: ast.Raise, frame: Frame) -> bool:
        raise Stops

    def _do_break(self, node: ast.Break | ast.Continue, frame: Frame) -> bool:
        if frame.broken:
            frame.broken[-1].append(self._copy(self._state))
        return False

    _do_continue = _do_break

    def _do_assert(self, node: ast.Assert, frame: Frame) -> bool:
        return truth_of(self._value(node.test, frame)) is not False

    def _do_import(self, node: ast.Import, frame: Frame) -> None:
        for alias in node.names:
            path = alias.name if alias.asname else alias.name.split(".")[0]
            self._check_import(alias.name)
            self._bind(alias.asname or path, imported(path), frame)

    def _do_importfrom(self, node: ast.ImportFrom, frame: Frame) -> None:
        for alias in node.names:
            self._check_import(f"{node.module}.{alias.name}")
            whole = UNKNOWN if node.level else imported(f"{node.module}.{alias.name}")
            if alias.name != "*":
                self._bind(alias.asname or alias.name, whole, frame)

    def _do_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, frame: Frame) -> None:
        made: Value = self._function(node, frame)
        for each in reversed(node.decorator_list):
            decorator = self._value(each, frame)
            if not isinstance(decorator, Thing):  # others give the function, or one like it
                made = self._call(decorator, Arguments((made,)))
        self._bind(node.name, made, frame)

    _do_asyncfunctiondef = _do_functiondef

    def _do_classdef(self, node: ast.ClassDef, frame: Frame) -> None:
        bases = [self._value(each, frame) for each in node.bases]
        own = [each for each in bases if isinstance(each, Class)]
        if node.keywords or node.decorator_list:
            around = [self._value(each.value, frame) for each in node.keywords]
            self._hand_over([*around, *(self._value(each, frame) for each in node.decorator_list)])
        methods = {name: f for each in reversed(own) for name, f in each.methods.items()}
        foreign = len(own) < len(bases)
        unseen = [name for each in own for name in each.unseen]
        for part in node.body:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                methods[part.name] = self._function(part, frame)
                if part.name not in SEEN and (foreign or _is_unseen(part)):
                    unseen.append(part.name)
        made = Class(methods, self._number(), tuple(unseen), node)
        for each in node.body:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
                targets = each.targets if isinstance(each, ast.Assign) else [each.target]
                value = self._value(each.value, frame)
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._state[("attribute", made.number, target.id)] = value
                    else:
                        self._assign(target, value, frame)
            elif not isinstance(each, ast.Pass):
                self._statement(each, frame)
        self._bind(node.name, made, frame)

    def _do_global(self, node: ast.Global, frame: Frame) -> None:
        frame.outside.update(dict.fromkeys(node.names, 0))

    def _do_nonlocal(self, node: ast.Nonlocal, frame: Frame) -> None:
        outer = self._parents[frame.scope] or 0
        frame.outside.update({name: self._holder(name, outer) for name in node.names})

    def _do_assign(self, node: ast.Assign, frame: Frame) -> None:
        value = self._value(node.value, frame)
        for target in node.targets:
            self._assign(target, value, frame)

    def _do_annassign(self, node: ast.AnnAssign, frame: Frame) -> None:
        self._value(node.annotation, frame)
        if node.value is not None:
            self._assign(node.target, self._value(node.value, frame), frame)

    def _do_augassign(self, node: ast.AugAssign, frame: Frame) -> None:
        value = self._value(node.value, frame)
        before: Value = UNKNOWN
        if isinstance(node.target, ast.Name):
            before = self._look_up(node.target.id, frame)
        self._assign(node.target, computed(node.op, before, value), frame)

    def _do_delete(self, node: ast.Delete, frame: Frame) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._bind(target.id, UNKNOWN, frame)
            elif isinstance(target, ast.Attribute):
                self._check_deleted(self._value(target.value, frame), target.attr)
            elif isinstance(target, ast.Subscript):
                self._check_item(self._value(target.value, frame))

    def _do_if(self, node: ast.If, frame: Frame) -> bool:
        truth = truth_of(self._value(node.test, frame))
        if truth is not None:
            return self._block(node.body if truth else node.orelse, frame)
        return self._ways(
            [lambda: self._block(node.body, frame), lambda: self._block(node.orelse, frame)]
        )

    def _do_match(self, node: ast.Match, frame: Frame) -> bool:
        self._hand_over([self._value(node.subject, frame)])
        ways = [partial(self._block, case.body, frame) for case in node.cases]
        return self._ways([*ways, lambda: True])

    def _do_while(self, node: ast.While, frame: Frame) -> bool:
        truth = truth_of(self._value(node.test, frame))
        if truth is False:
            return self._block(node.orelse, frame)
        endless = truth is True and isinstance(node.test, ast.Constant)
        again = ast.copy_location(ast.Expr(node.test), node.test)
        return self._loop([*node.body, again], frame, endless=endless)

    def _do_for(self, node: ast.For | ast.AsyncFor, frame: Frame) -> bool:
        found = self._value(node.iter, frame)
        if isinstance(found, Suspended):
            with contextlib.suppress(Stops):  # as one does that never ends
                self._resume(found, lambda value: self._once(node, value, frame))
            return True
        items = items_of(found)
        if not items:
            return self._block(node.orelse, frame)
        self._assign(node.target, either(items), frame)
        return self._loop(node.body, frame, endless=False)

    _do_asyncfor = _do_for

    def _once(self, node: ast.For | ast.AsyncFor, value: Value, frame: Frame) -> None:
        self._assign(node.target, value, frame)
        self._loop(node.body, frame, endless=False)

    def _loop(self, body: Sequence[ast.stmt], frame: Frame, *, endless: bool) -> bool:
        frame.broken.append([])
        before = self._copy(self._state)
        goes_on = self._block(body, frame)
        if goes_on and self._loosen(before):  # another time round it may be otherwise
            goes_on = self._block(body, frame)
        ends = frame.broken.pop()
        if goes_on and not (endless and not ends):
            ends.append(self._state)
        if ends:
            self._meet(ends)
        return bool(ends)

    def _do_try(self, node: ast.Try, frame: Frame) -> bool:
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

    def _do_with(self, node: ast.With | ast.AsyncWith, frame: Frame) -> bool:
        return self._within(list(node.items), node.body, frame)

    _do_asyncwith = _do_with

    def _within(self, items: list[ast.withitem], body: Sequence[ast.stmt], frame: Frame) -> bool:
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


def _is_unseen(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a method may be called by other means than its name."""
    special = node.name.startswith("__") and node.name.endswith("__")
    names = {each.id if isinstance(each, ast.Name) else "" for each in node.decorator_list}
    return special or bool(names - KNOWN_DECORATORS)
