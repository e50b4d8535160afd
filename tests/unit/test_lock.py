"""The pins of pip and conda are the same, and are what pyproject.toml allows."""

from __future__ import annotations

import tomllib
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
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for requirement in map(Requirement, wanted):
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, f"run `make lock`: {requirement.name} is not pinned"
        assert requirement.specifier.contains(version), f"run `make lock`: {requirement}"
