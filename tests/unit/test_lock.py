"""The pins of pip and conda are the same, and are what pyproject.toml allows."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def pins() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_conda_has_the_same_pins() -> None:
    conda = yaml.safe_load((ROOT / "envs" / "diffaccel.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == pins(), "run `make lock`"


def test_the_pins_are_what_the_project_allows() -> None:
    found = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in pins()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # The packages of the documentation's site are no part of a measurement, so they have no pins.
    extras = [given for name, given in project["optional-dependencies"].items() if name != "docs"]
    wanted = [*project["dependencies"], *chain(*extras)]
    for requirement in map(Requirement, wanted):
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, f"run `make lock`: {requirement.name} is not pinned"
        assert requirement.specifier.contains(version), f"run `make lock`: {requirement}"


def test_what_the_package_imports_it_depends_on() -> None:
    """An installed package has its dependencies alone, not those of its developers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(each).name) for each in project["dependencies"]}
    providers = packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "workflow").rglob("*.py")
        for name in imported(path) - sys.stdlib_module_names - {"diffaccel"}
        if declared.isdisjoint(map(canonicalize_name, providers.get(name, [name])))
    }
    assert not missing


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
