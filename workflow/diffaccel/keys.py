"""What determines a measurement: nothing that was measured is used where any of it is otherwise.

A baseline names what all measurements beside it share (`diffaccel.bench.identity_of`). Here is what
belongs to one row alone: the prompts that it was made with, the source of its accelerators, and how
often it was timed at least. How much is measured at most, and how sure an answer must be, is in no
key: raising it measures nothing again.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from diffaccel.accelerators import ACCELERATORS
from diffaccel.journal import Journal
from diffaccel.jsonio import digest
from diffaccel.records import Baseline, Clocking, Drawing, MeasureOptions, SettingDict

Own = Mapping[str, str]
"""What determines a row besides what its baseline shares, by name."""


def drawn(folder: Path, baseline: Baseline, cell: str) -> Journal[Drawing]:
    """The evaluations of a cell, by its slug."""
    path = folder / "drawn" / f"{cell}.jsonl"
    return Journal(path, baseline.digest, Drawing, baseline.about(), of_drawing(baseline))


def timed(folder: Path, baseline: Baseline) -> Journal[Clocking]:
    """The timings of a model, whatever its scheduler and steps: the times of its steps are the
    same."""
    about = {name: value for name, value in baseline.about().items() if name != "setup"}
    shared = {
        name: value for name, value in baseline.identity.items() if name not in ("setup", "prompts")
    }
    path = folder / "timed" / f"{baseline.setup.model}.jsonl"
    own = of_timing(baseline.options)
    return Journal(path, digest(shared), Clocking, {**about, "identity": shared}, own)


def of_drawing(baseline: Baseline) -> Callable[[Drawing], Own]:
    """Prompt i has a seed of its own, so that what was drawn with the first n prompts is the same
    whatever follows them. A row of more prompts than there are is of none of them."""

    def own(row: Drawing) -> Own:
        prompts = baseline.prompts[: row.prompts]
        found = digest(prompts) if len(prompts) == row.prompts else "more than there are"
        return {"prompts": found, **sources(row.setting)}

    return own


def of_timing(options: MeasureOptions) -> Callable[[Clocking], Own]:
    """The least number of pairs, and the accelerators."""
    return lambda row: {"pairs": str(options.pairs), **sources(row.row.setting)}


def sources(setting: SettingDict) -> dict[str, str]:
    """Hash of the source of each accelerator of a setting."""
    known = [name for name in sorted(setting) if name in ACCELERATORS]
    return {name: _hash_of(type(ACCELERATORS[name]).__module__) for name in known}


@functools.cache
def _hash_of(module: str) -> str:
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
