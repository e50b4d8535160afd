"""What the class of a scheduler takes, read from diffusers' source: importing it takes seconds, and
a configuration is checked before every run."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

UNKNOWN = object()
"""A default that is no literal."""


@cache
def signature(diffusers: str) -> Mapping[str, Any]:
    """Arguments of a class with their defaults; none where there is no such class.

    Args:
        diffusers: name of the class there.
    """
    found = importlib.util.find_spec("diffusers")
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        for path in sorted(Path(folder, "schedulers").glob("scheduling_*.py")):
            text = path.read_text(encoding="utf-8")
            if f"class {diffusers}(" in text:
                return MappingProxyType(_defaults(ast.parse(text), diffusers))
    return MappingProxyType({})


def _defaults(module: ast.Module, name: str) -> dict[str, Any]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            owner = next(
                each for each in module.body if isinstance(each, ast.ClassDef) and node in each.body
            )
            if owner.name == name:
                names = [each.arg for each in node.args.args[1:]]
                values = [_value(each) for each in node.args.defaults]
                return dict(zip(reversed(names), reversed(values), strict=False))
    return {}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN
