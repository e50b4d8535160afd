"""Names, attributes and items: what they hold, and what is put into them."""

from __future__ import annotations

import ast
import builtins

from diffaccel.benchmark.judge.syntax.known import (
    ANY_PART,
    ATTRIBUTES,
    NUMBERS,
    PIPE,
    is_forbidden,
    is_imported,
)
from diffaccel.benchmark.judge.syntax.pipelines import plain
from diffaccel.benchmark.judge.syntax.values import (
    OWN,
    UNKNOWN,
    Arguments,
    Class,
    Const,
    Either,
    Function,
    Instance,
    Items,
    Pipeline,
    Table,
    Thing,
    Value,
    about_of,
    either,
    options,
    unpacked,
    updated,
)
from diffaccel.benchmark.judge.syntax.ways import Frame
from diffaccel.benchmark.judge.syntax.writes import Writes

LONGEST_PATH = 200
PROPERTIES = {"property", "cached_property"}


class Names(Writes):
    """Reads and writes them."""

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, frame: Frame
    ) -> Function:
        own = node.args
        slots = [*own.posonlyargs, *own.args]
        pairs = [*zip(slots[len(slots) - len(own.defaults) :], own.defaults, strict=True)]
        pairs += [(a, d) for a, d in zip(own.kwonlyargs, own.kw_defaults, strict=True) if d]
        for each in (*slots, *own.kwonlyargs):
            if each.annotation is not None:
                self._value(each.annotation, frame)
        defaults = {argument.arg: self._value(default, frame) for argument, default in pairs}
        return Function(node, frame.scope, defaults)

    def _holder(self, name: str, scope: int | None) -> int:
        while scope is not None and ("name", scope, name) not in self._state:
            scope = self._parents[scope]
        return scope or 0

    def _look_up(self, name: str, frame: Frame) -> Value:
        scope = self._holder(name, frame.outside.get(name, frame.scope))
        found = self._state.get(("name", scope, name))
        if found is not None:
            return found
        if name == "__name__":
            return Const("judged")
        if not hasattr(builtins, name):
            return UNKNOWN
        self._check_path(name)
        return Thing(name)

    def _check_import(self, path: str) -> None:
        if not is_imported(path, self._known):
            self._refuse(f"imports {path}: what that does is not known")
        self._check_path(path)

    def _check_path(self, path: str) -> None:
        if is_forbidden(path):
            self._refuse(f"uses {path}, which does what a text does not say")

    def _bind(self, name: str, value: Value, frame: Frame) -> None:
        self._state[("name", frame.outside.get(name, frame.scope), name)] = value

    def _assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        self._charge(1)
        self._line = target.lineno
        if isinstance(target, ast.Name):
            self._bind(target.id, value, frame)
        elif isinstance(target, ast.Starred):
            self._assign(target.value, UNKNOWN, frame)
        elif isinstance(target, ast.Tuple | ast.List):
            if not isinstance(value, Items):
                self._hand_over([value])
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
            self._check_set(each, name, value)
            if isinstance(each, Pipeline | Instance | Class):
                self._state[("attribute", each.number, name)] = value
            if isinstance(each, Pipeline):
                self._note(f"{PIPE}.{name}=", frozenset([each.number]))
            elif isinstance(each, Thing) and each.path:
                self._note(f"{each.path}.{name}=", each.about)
            if isinstance(each, Pipeline | Thing):
                self._hand_over([value])

    def _set_item(self, target: ast.Subscript, value: Value, frame: Frame) -> None:
        table = self._value(target.value, frame)
        key = self._value(target.slice, frame)
        self._check_item(table)
        self._hand_over([value])
        if isinstance(target.value, ast.Name):
            known = isinstance(table, Table) and isinstance(key, Const)
            new = updated(table, {key.value: value}) if known else UNKNOWN  # type: ignore[union-attr]
            self._bind(target.value.id, new, frame)

    def _attribute(self, owner: Value, name: str) -> Value:
        if name in ATTRIBUTES:
            self._refuse(f"uses .{name}, which leads to what is behind a value")
        if isinstance(owner, Items | Table):  # its methods may give what is in it
            self._hand_over([owner])
        if isinstance(owner, Either):
            return either(self._attribute(each, name) for each in owner.options)
        if isinstance(owner, Pipeline | Instance | Class):
            known = self._state.get(("attribute", owner.number, name))
            if known is not None:
                return part_of(known, owner, name) if isinstance(owner, Pipeline) else known
        if name in NUMBERS and about_of([owner]):
            return UNKNOWN
        if isinstance(owner, Pipeline):
            if name == "__class__":
                return Thing(f"diffusers.{owner.kind}")
            return Thing(f"{PIPE}.{name}", frozenset([owner.number]))
        if isinstance(owner, Instance):
            return self._member(owner, name)
        if isinstance(owner, Class):
            return owner.methods.get(name, UNKNOWN)
        if isinstance(owner, Thing):
            path = owner.path or (ANY_PART if owner.about else "")
            if not 0 < len(path) < LONGEST_PATH:
                return Thing("", owner.about)
            self._check_path(f"{path}.{name}")
            return Thing(plain(f"{path}.{name}"), owner.about)
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


def _last_name(node: ast.expr) -> str:
    """``c`` of ``a.b.c``, and of ``c``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def part_of(value: Value, pipeline: Pipeline, name: str) -> Value:
    """What an attribute of a pipeline was set to, as a part of it."""
    if isinstance(value, Either):
        return either(part_of(each, pipeline, name) for each in value.options)
    about = frozenset([pipeline.number])
    if isinstance(value, Thing):
        return Thing(value.path, value.about | about)
    return Thing(f"{PIPE}.{name}", about) if value == OWN else value
