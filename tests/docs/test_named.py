"""Every command, flag, key and rule that there is stands in a page."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from diffaccel.cli.main import _parser
from diffaccel.experiment.schema import Config, ModelEntry
from tests.docs.pages import DOCS, PAGES, ROOT

TEXTS = [page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md"]


def commands(parser: argparse.ArgumentParser, *before: str) -> Iterator[tuple[str, list[str]]]:
    """Every command of a parser with its long flags."""
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for action in inner:
        for name, each in action.choices.items():
            yield from commands(each, *before, name)
    if not inner:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        yield " ".join(before), [flag for flag in flags if flag not in ("-h", "--help")]


def mentions(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


@pytest.mark.parametrize(
    ("command", "flags"), list(commands(_parser())), ids=lambda value: value and str(value)
)
def test_every_command_and_flag(command: str, flags: list[str]) -> None:
    """The flags in a page that names the command."""
    pages = [text for text in TEXTS if mentions(text, f"diffaccel {command}")]
    assert pages, f"no page says what `diffaccel {command}` does"
    missing = [flag for flag in flags if not any(mentions(text, flag) for text in pages)]
    assert not missing, f"`diffaccel {command}`: no page that names it names {missing}"


def parsed(folder: Path) -> Iterator[tuple[str, str]]:
    """The flags of the other programs of a folder, by file: what ``add_argument`` is given."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
                if node.func.attr == "add_argument":
                    name = str(path.relative_to(ROOT))
                    yield from ((name, flag) for flag in given if flag.startswith("--"))


@pytest.mark.parametrize(
    "folder",
    ["benchmarks", "tests/faults", "workflow/diffaccel/plugins/models/mini", "tests/golden"],
)
def test_every_flag_of_the_other_programs(folder: str) -> None:
    """Of the benchmarks, the faults, the mini models, and the generated scripts."""
    found = list(parsed(ROOT / folder))
    assert found
    missing = [each for each in found if not any(mentions(text, each[1]) for text in TEXTS)]
    assert not missing


def keys(model: type[BaseModel], *before: str) -> Iterator[str]:
    """Every key of a section and of those within it, as ``measure.prompts``."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, *before, name)
        else:
            yield ".".join((*before, name))


def test_every_key_of_the_configuration() -> None:
    text = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    found = list(keys(Config))
    assert "measure.prompts" in found and "models" in found
    assert [key for key in found if f"`{key}`" not in text] == []


def test_every_key_of_a_model() -> None:
    text = (DOCS / "reference" / "models.md").read_text(encoding="utf-8")
    assert [key for key in ModelEntry.model_fields if f"`{key}`" not in text] == []


def test_every_rule_and_make_target() -> None:
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    rules = re.findall(r"^(?:rule|checkpoint) (\w+):", "".join(map(Path.read_text, files)), re.M)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert "search" in rules and "test" in targets
    assert [rule for rule in rules if not any(f"`{rule}`" in text for text in TEXTS)] == []
    assert [each for each in targets if not any(f"make {each}" in text for text in TEXTS)] == []
