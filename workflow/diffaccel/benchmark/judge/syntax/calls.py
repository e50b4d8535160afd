"""Calls: of functions of the script, which are followed, and of what it imports."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterable
from functools import partial

from diffaccel.benchmark.judge.syntax.known import LOADERS, MAKES, PIPE, Known
from diffaccel.benchmark.judge.syntax.names import Names
from diffaccel.benchmark.judge.syntax.pipelines import PIPELINES
from diffaccel.benchmark.judge.syntax.values import (
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
    UnreadableError,
    Value,
    about_of,
    after_update,
    either,
    items_of,
    own_code,
    row,
    text_of,
    updated,
)
from diffaccel.benchmark.judge.syntax.ways import Frame, Stops

DEEPEST = 40
"""Calls within calls that are followed."""
ENDS = ("sys.exit", "os._exit", "os.abort", "exit", "quit")


class Calls(Names):
    """Calls of whatever can be called."""

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self._generators: dict[ast.AST, bool] = {}
        self._trying: set[int] = set()

    def _of_call(self, node: ast.Call, frame: Frame) -> Value:
        if isinstance(node.func, ast.Name):
            function = self._look_up(node.func.id, frame)
        else:
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

    def _arguments(self, node: ast.Call, frame: Frame) -> Arguments:
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
            for name in function.unseen:  # whoever has it may call these without their names
                self._hand_over([self._attribute(made, name)])
            if "__init__" in function.methods:
                self._call(self._attribute(made, "__init__"), arguments)
            return made
        if isinstance(function, Instance):
            return self._call(self._attribute(function, "__call__"), arguments)
        if isinstance(function, Pipeline):
            self._hand_over(arguments.all())
            return self._generate(function, "", arguments)
        if isinstance(function, Thing):
            return self._call_thing(function, arguments)
        self._hand_over(arguments.all())
        return UNKNOWN

    def _call_thing(self, function: Thing, arguments: Arguments) -> Value:
        path, given = function.path, arguments.all()
        if path in ENDS:
            raise Stops
        head, _, last = path.rpartition(".")
        generates = last == "__call__" or last in self._known.generates
        about = function.about | about_of(given)
        if head == PIPE and generates:
            self._note(path, about, arguments)
            return self._call_method(function, last, arguments)
        first = arguments.positional[0] if arguments.positional else None
        if last == "__call__" and isinstance(first, Pipeline):  # of its class
            rest = Arguments(arguments.positional[1:], arguments.named, arguments.open)
            return self._generate(first, "", rest)
        self._check_call(function, arguments)
        self._note(path, about, arguments)
        if head == PIPE and function.about:
            return self._call_method(function, last, arguments)
        if last in LOADERS and head.startswith("diffusers.") and head.endswith(PIPELINES):
            return self._load(head.removeprefix("diffusers."), arguments)
        special = getattr(self, f"_calling_{path.replace('.', '_')}", None)
        if special is not None:
            found: Value = special(arguments)
            return found
        functions = [each for each in given if isinstance(each, Function | Partial)]
        self._hand_over(given)
        if len(given) == len(functions) == 1:  # as a decorator does
            return given[0]
        made = Thing(path, about)
        # What is made of a pipeline may be the pipeline itself: T-Gate's loaders give it back.
        pipelines = [each for each in arguments.positional if isinstance(each, Pipeline)]
        helper = any(each.startswith(f"{path}.") for each in self._known.calls)
        return made if helper else either([made, *pipelines[:1]])

    def _call_method(self, method: Thing, name: str, arguments: Arguments) -> Value:
        number = min(method.about)
        pipeline = self._pipelines[number]
        self._hand_over(arguments.all())
        if name == "__call__" or name in self._known.generates:
            return self._generate(pipeline, name.strip("_").removeprefix("call"), arguments)
        return UNKNOWN if name in MAKES else pipeline

    def _calling_functools_partial(self, arguments: Arguments) -> Value:
        if not arguments.positional:
            return UNKNOWN
        first, *rest = arguments.positional
        return Partial(first, Arguments(tuple(rest), arguments.named, arguments.open))

    def _calling_functools_wraps(self, arguments: Arguments) -> Value:
        return Thing("functools.wraps.decorator")

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
            if not text_of(name):
                self._refuse("sets an attribute whose name cannot be told: write it as a constant")
                self._hand_over([value])
            # Of an unknown name it may be the scheduler: that is what matters most.
            self._set(owner, text_of(name) or "scheduler", value if text_of(name) else UNKNOWN)
        return Const(None)

    def _calling_getattr(self, arguments: Arguments) -> Value:
        if len(arguments.positional) >= 2:
            owner, name = arguments.positional[:2]
            known = text_of(name)
            if known:
                return self._attribute(owner, known)
            self._refuse("reads an attribute whose name cannot be told: write it as a constant")
            return Thing("", about_of([owner]))
        return UNKNOWN

    def _calling_delattr(self, arguments: Arguments) -> Value:
        if len(arguments.positional) == 2:
            owner, name = arguments.positional
            self._check_deleted(owner, text_of(name) or "")
        return Const(None)

    def _calling_vars(self, arguments: Arguments) -> Value:
        about = about_of(arguments.all())
        if not about:
            self._refuse("uses vars() of what is no part of the pipeline")
        return Thing("vars", about)

    def _calling_type(self, arguments: Arguments) -> Value:
        (first, *more) = arguments.positional or (UNKNOWN,)
        if more:
            self._refuse("makes a class by type(): write it as one")
        return self._attribute(first, "__class__") if isinstance(first, Pipeline) else UNKNOWN

    def _calling_list(self, arguments: Arguments) -> Value:
        for each in arguments.positional:
            if isinstance(each, Items):
                return each
            self._hand_over([each])
        return Thing("", about_of(arguments.positional))

    _calling_tuple = _calling_list
    _calling_next = _calling_list

    def _hand_over(self, values: Iterable[Value]) -> None:
        for value in own_code(values):
            if isinstance(value, Suspended):
                self._resume(value, lambda value: None)
            if isinstance(value, Class):
                self._hand_over(value.methods.values())
            if isinstance(value, Instance) and "__call__" in value.kind.methods:
                self._hand_over([self._attribute(value, "__call__")])
            if isinstance(value, Function | Partial) and id(value) not in self._trying:
                self._trying.add(id(value))
                self._ways([partial(self._tried, value), lambda: True])
                self._trying.discard(id(value))

    def _tried(self, function: Value) -> bool:
        with contextlib.suppress(Stops):
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
        if len(self._active) >= DEEPEST:
            raise UnreadableError("calls are nested too deeply to be followed")
        depth = self._active.count(function.node)
        if depth > 1:
            return UNKNOWN
        if depth:  # of what is deeper, the numbers are not known
            arguments = arguments.any_numbers()
        scope = self._number()
        self._parents[scope] = function.scope
        frame = Frame(scope, on_yield=on_yield)
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
            raise Stops
        self._meet(frame.exits)
        return either(frame.returned)

    def _is_generator(self, node: ast.AST) -> bool:
        if node not in self._generators:
            self._generators[node] = _yields(node)
        return self._generators[node]

    def _resume(self, suspended: Suspended, on_yield: Callable[[Value], None]) -> None:
        """Runs a generator function; what is done with what it yields, is done within."""
        self._invoke(suspended.function, suspended.arguments, on_yield)

    def _bind_parameters(self, function: Function, arguments: Arguments, frame: Frame) -> None:
        own = function.node.args
        slots = [each.arg for each in (*own.posonlyargs, *own.args)]
        given = arguments.positional
        if function.owner is not None:
            given = (function.owner, *given)
        known = dict(zip(slots, given, strict=False))
        names = [*slots, *(each.arg for each in own.kwonlyargs)]
        known |= {name: arguments.named[name] for name in names if name in arguments.named}
        for name in names:
            default = UNKNOWN if arguments.open else function.defaults.get(name, UNKNOWN)
            self._bind(name, known.get(name, default), frame)
        if own.vararg is not None:
            rest = UNKNOWN if arguments.open else row(given[len(slots) :])
            self._bind(own.vararg.arg, rest, frame)
        if own.kwarg is not None:
            more = {name: value for name, value in arguments.named.items() if name not in names}
            table = UNKNOWN if arguments.open else updated(Table(()), more)
            self._bind(own.kwarg.arg, table, frame)


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
