"""What is done to pipelines and their parts, and whether it is known: see `known`."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from diffaccel.benchmark.judge.syntax.known import (
    COMPILED,
    DEFAULTED,
    INSIDE,
    LOADERS,
    LOADING,
    PARTS,
    PIPE,
    SETTABLE,
    SETTINGS,
    Known,
    is_known_method,
    may_be_given_parts,
)
from diffaccel.benchmark.judge.syntax.pipelines import Pipelines
from diffaccel.benchmark.judge.syntax.values import (
    Arguments,
    Const,
    Function,
    Instance,
    Pipeline,
    Thing,
    Value,
    about_of,
    options,
    own_code,
)

MOST_REFUSED = 20


class Writes(Pipelines):
    """Keeps what is refused, each with its line."""

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.refused: list[str] = []
        self._tree = ast.Module([], [])
        self._trusted: set[ast.AST] | None = None

    def _refuse(self, what: str) -> None:
        text = f"line {self._line} {what}"
        if len(self.refused) < MOST_REFUSED and text not in self.refused:
            if self._active and self._is_trusted(self._active[-1]):
                return
            self.refused.append(text)

    def _is_trusted(self, node: ast.AST) -> bool:
        """Whether a function is part of what an accelerator defines in scripts."""
        if self._trusted is None:
            kinds = (ast.FunctionDef, ast.ClassDef)
            tops = [each for each in self._tree.body if isinstance(each, kinds)]
            known = self._known.definitions() if tops else ()
            mine = [each for each in tops if ast.dump(each) in known]
            self._trusted = {inner for each in mine for inner in ast.walk(each)}
        return node in self._trusted

    def _strange(self, values: Iterable[Value]) -> list[Value]:
        """Code of the script's own in values, but what accelerators define."""
        found = []
        for each in own_code(values):
            node: ast.AST | None = each.node if isinstance(each, Function) else None
            if isinstance(each, Instance):
                node = each.kind.node
            if node is None or not self._is_trusted(node):
                found.append(each)
        return found

    # What is set

    def _check_set(self, owner: Value, name: str, value: Value) -> None:
        """An attribute of one thing is set."""
        if isinstance(owner, Pipeline):
            settable = name in SETTABLE or f"{name}=" in self._known.writes
            if not settable and not (name in PARTS and self._is_part(value)):
                self._refuse(f"sets .{name} of the pipeline to what is not known")
            elif any(not _passes_on(each) for each in self._strange([value])):
                self._refuse(f"sets .{name} of the pipeline to code of its own")
        elif isinstance(owner, Thing) and not self._may_set(owner, name, value):
            what = f".{name} of {_named(owner)}"
            self._refuse(f"sets {what}: what that changes is not known")

    def _may_set(self, owner: Thing, name: str, value: Value) -> bool:
        if owner.about:
            trusted = own_code([value]) and not self._strange([value])
            return bool(trusted) or all(
                isinstance(each, Thing) and each.path in COMPILED for each in options(value)
            )
        return f"{owner.path}.{name}".startswith(SETTINGS)

    def _is_part(self, value: Value) -> bool:
        for each in options(value):
            path = each.path if isinstance(each, Thing) else ""
            loaded = path.startswith(("diffusers.", "transformers.")) and path.endswith(LOADERS)
            own = path in COMPILED or path.startswith((f"{PIPE}.", "copy."))
            if not loaded and not own and each != Const(None):
                return False
        return True

    def _check_item(self, owner: Value) -> None:
        """An item of something is set or deleted."""
        for each in options(owner):
            inner = isinstance(each, Thing) and each.path.split(".")[0] in (*INSIDE, "vars")
            if (about_of([each]) and not isinstance(each, Pipeline)) or inner:
                self._refuse(f"sets an item of {_named(each)}: what that changes is not known")

    def _check_deleted(self, owner: Value, name: str) -> None:
        for each in options(owner):
            known = f"del {name}" in self._known.writes
            if isinstance(each, Pipeline | Thing) and not known:
                self._refuse(f"deletes .{name} of {_named(each)}")

    # What is called

    def _check_call(self, function: Thing, arguments: Arguments) -> None:
        """A function of another package is called, or a method of a pipeline or its parts."""
        path, given = function.path, arguments.all()
        if function.about:
            self._check_method(function, arguments)
        elif about_of(given):
            if not may_be_given_parts(path, self._known):
                self._refuse(f"gives the pipeline, or a part of it, to {_named(function)}")
            elif "." in path and self._strange(given):
                self._refuse(f"gives {path} code of its own along with the pipeline")
        if path.endswith(LOADERS):
            self._check_loading(path, arguments)

    def _check_method(self, method: Thing, arguments: Arguments) -> None:
        path, given = method.path, arguments.all()
        first = next(iter(arguments.positional), None)
        removed = first.value if isinstance(first, Const) else None
        if path == "vars.pop" and f"del {removed}" in self._known.writes:
            return
        if path == "vars.setdefault" and removed in DEFAULTED and not self._strange(given):
            return
        if not is_known_method(path, self._known):
            self._refuse(f"calls {_named(method)}: what that changes is not known")
        elif self._strange(given):
            self._refuse(f"gives {_named(method)} code of its own")

    def _check_loading(self, path: str, arguments: Arguments) -> None:
        root, _, rest = path.partition(".")
        if root not in ("diffusers", "transformers") or "Scheduler" in rest:
            return
        if path.endswith(".from_config"):
            self._refuse(f"makes a network by {path}: load the model's own")
        for name, value in arguments.named.items():
            if name not in LOADING:
                self._refuse(f"gives {path} the argument {name}: what that changes is not known")
            elif name in PARTS and not self._is_part(value):
                self._refuse(f"gives {path} a {name} that is not known")


def _passes_on(value: Value) -> bool:
    """Whether it gives back first what it was given first, as what takes the place of a safety
    checker does."""
    node = value.node if isinstance(value, Function) else None
    if isinstance(node, ast.Lambda):
        body: ast.expr | None = node.body
    elif isinstance(node, ast.FunctionDef) and isinstance(node.body[0], ast.Return):
        body = node.body[0].value
    else:
        return False
    if node is None or not node.args.args or not isinstance(body, ast.Tuple) or not body.elts:
        return False
    first = body.elts[0]
    return isinstance(first, ast.Name) and first.id == node.args.args[0].arg


def _named(value: Value) -> str:
    """Something by its path, where it has one."""
    path = value.path if isinstance(value, Thing) else ""
    if path:
        return path
    return "a part of the pipeline" if about_of([value]) else "something that is not known"
