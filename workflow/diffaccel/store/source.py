"""What a source says, without its comments and layout: what was measured with another is measured
again."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from diffaccel.store.jsonio import digest


@functools.cache
def hash_of(module: str) -> str:
    """Of what a module says, and all that it takes from its own package."""
    return digest(modules(module))


def modules(module: str) -> dict[str, str]:
    """A module and all that it takes from its own package: what each says."""
    package, _, _ = module.rpartition(".")
    found: dict[str, str] = {}
    missing = [module]
    while missing:
        name = missing.pop()
        tree = ast.parse(_file(name, package).read_text(encoding="utf-8"))
        taken = list(_taken(tree, package))
        found[name] = meaning(tree)
        missing += [each for each in taken if each not in {*found, *missing}]
    return found


def _file(module: str, package: str) -> Path:
    folder = Path(str(sys.modules[package].__file__)).parent
    return folder / f"{module.rpartition('.')[2]}.py"


def _taken(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules of a package that a source imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == package:
                yield from (f"{package}.{alias.name}" for alias in node.names)
            elif node.module.startswith(f"{package}."):
                yield node.module


def meaning(tree: ast.AST) -> str:
    """A source without comments, docstrings and layout."""
    return ast.unparse(_WithoutText().visit(tree))


class _WithoutText(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node
