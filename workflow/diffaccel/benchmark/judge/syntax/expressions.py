"""Expressions: what each kind gives, as far as the syntax tells."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from functools import partial

from diffaccel.benchmark.judge.syntax.calls import Calls
from diffaccel.benchmark.judge.syntax.known import SETTERS
from diffaccel.benchmark.judge.syntax.values import (
    LONGEST_TEXT,
    UNKNOWN,
    Const,
    Items,
    Suspended,
    Table,
    Thing,
    Value,
    about_of,
    compared,
    computed,
    either,
    items_of,
    options,
    row,
    text_of,
    truth_of,
    updated,
)
from diffaccel.benchmark.judge.syntax.ways import Frame, Stops


class Expressions(Calls):
    """A method ``_of_<kind of node>`` each; of other kinds the value is unknown."""

    def _value(self, node: ast.expr, frame: Frame) -> Value:
        self._charge(1)
        follow = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if follow is not None:
            found: Value = follow(node, frame)
            return found
        parts = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        return self._lost([self._value(each, frame) for each in parts])

    def _of_constant(self, node: ast.Constant, frame: Frame) -> Value:
        return Const(node.value)

    def _of_name(self, node: ast.Name, frame: Frame) -> Value:
        found = self._look_up(node.id, frame)
        if any(isinstance(each, Thing) and each.path in SETTERS for each in options(found)):
            self._refuse(f"hands {node.id} on: what it sets there is not told")
        return found

    def _of_attribute(self, node: ast.Attribute, frame: Frame) -> Value:
        return self._attribute(self._value(node.value, frame), node.attr)

    def _of_namedexpr(self, node: ast.NamedExpr, frame: Frame) -> Value:
        value = self._value(node.value, frame)
        self._assign(node.target, value, frame)
        return value

    def _of_lambda(self, node: ast.Lambda, frame: Frame) -> Value:
        return self._function(node, frame)

    def _of_await(self, node: ast.Await, frame: Frame) -> Value:
        return self._value(node.value, frame)

    def _of_yield(self, node: ast.Yield, frame: Frame) -> Value:
        value = self._value(node.value, frame) if node.value else Const(None)
        if frame.on_yield is not None:
            frame.on_yield(value)
        return UNKNOWN

    def _of_yieldfrom(self, node: ast.YieldFrom, frame: Frame) -> Value:
        value = self._value(node.value, frame)
        if isinstance(value, Suspended):
            self._resume(value, frame.on_yield or (lambda value: None))
        elif frame.on_yield is not None:
            frame.on_yield(UNKNOWN)
        return UNKNOWN

    def _of_list(self, node: ast.List | ast.Tuple, frame: Frame) -> Value:
        items: list[Value] = []
        for each in node.elts:
            if isinstance(each, ast.Starred):
                items += items_of(self._value(each.value, frame))
            else:
                items.append(self._value(each, frame))
        return row(items)

    _of_tuple = _of_list

    def _of_dict(self, node: ast.Dict, frame: Frame) -> Value:
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

    def _of_subscript(self, node: ast.Subscript, frame: Frame) -> Value:
        owner, key = self._value(node.value, frame), self._value(node.slice, frame)
        if isinstance(key, Const):
            with contextlib.suppress(KeyError, IndexError, TypeError):
                if isinstance(owner, Table):
                    return dict(owner.items)[key.value]
                if isinstance(owner, Items):
                    return owner.items[key.value]
        return self._lost([owner])

    def _lost(self, values: Sequence[Value]) -> Value:
        """Something of these, one cannot tell which: code in it may be called by whoever has it."""
        self._hand_over(values)
        return Thing("", about_of(values))

    def _of_ifexp(self, node: ast.IfExp, frame: Frame) -> Value:
        truth = truth_of(self._value(node.test, frame))
        chosen = {None: [node.body, node.orelse], True: [node.body], False: [node.orelse]}[truth]
        return self._any(chosen, frame)

    def _any(self, nodes: Sequence[ast.expr], frame: Frame) -> Value:
        """The value of one of these; what it does may have been done."""
        if len(nodes) == 1:
            return self._value(nodes[0], frame)
        values: list[Value] = []

        def way(node: ast.expr) -> bool:
            with contextlib.suppress(Stops):
                values.append(self._value(node, frame))
                return True
            return False

        if not self._ways([partial(way, node) for node in nodes]):
            raise Stops
        return either(values)

    def _of_boolop(self, node: ast.BoolOp, frame: Frame) -> Value:
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
                value = self._lost([value])
            else:
                value = self._value(each, frame)
        return value

    def _of_unaryop(self, node: ast.UnaryOp, frame: Frame) -> Value:
        value = self._value(node.operand, frame)
        if isinstance(node.op, ast.Not):
            truth = truth_of(value)
            return UNKNOWN if truth is None else Const(not truth)
        if isinstance(node.op, ast.USub) and isinstance(value, Const):
            with contextlib.suppress(TypeError):
                return Const(-value.value)
        return UNKNOWN

    def _of_binop(self, node: ast.BinOp, frame: Frame) -> Value:
        left, right = self._value(node.left, frame), self._value(node.right, frame)
        return computed(node.op, left, right)

    def _of_compare(self, node: ast.Compare, frame: Frame) -> Value:
        values = [self._value(each, frame) for each in (node.left, *node.comparators)]
        if len(values) != 2:
            return UNKNOWN
        return compared(node.ops[0], *values)

    def _of_joinedstr(self, node: ast.JoinedStr, frame: Frame) -> Value:
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
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, frame: Frame
    ) -> Value:
        self._bind_comprehension(node.generators, frame)
        return row([self._value(node.elt, frame)])

    _of_setcomp = _of_listcomp
    _of_generatorexp = _of_listcomp

    def _of_dictcomp(self, node: ast.DictComp, frame: Frame) -> Value:
        self._bind_comprehension(node.generators, frame)
        self._value(node.key, frame)
        return self._lost([self._value(node.value, frame)])

    def _bind_comprehension(self, generators: Sequence[ast.comprehension], frame: Frame) -> None:
        for each in generators:
            items = items_of(self._value(each.iter, frame))
            self._assign(each.target, either(items or [UNKNOWN]), frame)
            for test in each.ifs:
                self._value(test, frame)
