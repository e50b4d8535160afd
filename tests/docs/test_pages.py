"""Pages that readers follow are followed here: what they say is done, in order, and prints that."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs import made, metrics, samplers, together
from tests.docs.pages import DOCS, ROOT, Block, as_shown, blocks, follow

COPIED = ["Makefile", "Snakefile", "config.yaml", "pyproject.toml", "rules", "tests", "templates"]
COPIED += ["workflow", "envs", "profiles", "report"]


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A project of its own, as after ``make install``, and the environment to work in."""
    folder = tmp_path / "diffaccel"
    folder.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder)
    (folder / "resources").symlink_to(ROOT / "resources")
    # Of one core: tests run beside each other, and more threads than cores are slow.
    profile = folder / "profiles" / "default" / "config.yaml"
    text = profile.read_text(encoding="utf-8")
    assert "cores: all\n" in text
    profile.write_text(text.replace("cores: all\n", "cores: 1\n"), encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"CUDA_VISIBLE_DEVICES": "", "PATH": path, "PYTHONPATH": str(folder / "workflow")}
    return folder, os.environ | own


@pytest.mark.long
@pytest.mark.parametrize("page", ["tutorial/first-hour", "how-to/add-an-accelerator"])
def test_a_page_does_what_it_says(page: str, copy: tuple[Path, dict[str, str]]) -> None:
    assert follow(DOCS / f"{page}.md", *copy) > 3


@pytest.mark.parametrize("page", ["how-to/add-a-metric", "how-to/add-a-scheduler"])
def test_a_plugin_is_one_file(page: str, copy: tuple[Path, dict[str, str]]) -> None:
    folder, _ = copy
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert follow(DOCS / f"{page}.md", *copy) == 1
    made = {path for path in folder.rglob("*") if "__pycache__" not in path.parts} - before
    assert len(made) == 1 and made.pop().is_relative_to(folder / "workflow/diffaccel/plugins")


PAGE = """
```bash file=a.txt
one
```
some words

```python
print(1)
```
```text measured
1
```
```python
2
```
and
```text
no output
```
"""


def test_blocks_and_what_is_shown_below_them() -> None:
    assert list(blocks(PAGE)) == [
        Block("bash", "a.txt", "one\n", 2),
        Block("python", None, "print(1)\n", 7, "1\n", measured=True),
        Block("python", None, "2\n", 13),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 2.64x? +0.8%* - b", "a 1.1x - +7% b", True),
        ("a 2.64x b", "a two b", False),
        ("wrote a12.py", "wrote a7.py", True),
        ("wrote a12.py", "wrote b12.py", False),
        ("a\nb", "a\n\nb\n", True),
        ("a\nb", "a\nb\nc", False),
        ("a\n...\nc", "a\nb\nc", True),
        ("a\n...\nc", "a\nc", True),
        ("...\nb\n...", "a\nb\nc", True),
        ("...\nb\n...", "a\nc", False),
        ("a\n...\na", "a", False),
        ("loss +1.4%, b", "loss -2%, b", True),
        ("a 3 ...", "a 4 b c", True),
        ("a b ...", "a", False),
        ("a b...", "a bc) d", True),
        ("a b...", "a cb", False),
        ("a b...", "a", False),
    ],
)
def test_what_counts_as_shown(shown: str, printed: str, same: bool) -> None:
    assert as_shown(shown, printed, measured=True) is same


def test_what_is_not_measured_is_exact() -> None:
    assert as_shown("a 1  b", "a 1 b\n") and not as_shown("a 1 b", "a 2 b")


def test_a_block_that_fails_or_prints_otherwise_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text, says in (
        ("```bash\nexit 3\n```\n", "line 1 fails"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```bash\necho a\n```\n```text\nb\n```\n", "this is printed:\na"),
        ("```bash\nfalse | true\n```\n", "line 1 fails"),
    ):
        page.write_text(text)
        with pytest.raises(AssertionError, match=says):
            follow(page, tmp_path, os.environ)
    page.write_text("```python\na = 1\n```\n\n```python\nprint(a)\n```\n```text\n1\n```\n")
    assert follow(page, tmp_path, os.environ) == 2


def test_the_table_of_metrics_is_of_the_plugins() -> None:
    page = metrics.PAGE.read_text(encoding="utf-8")
    assert page == made.written(page, metrics.PARTS), "run `make pages`"


def test_the_table_of_samplers_is_of_the_plugins() -> None:
    page = samplers.PAGE.read_text(encoding="utf-8")
    assert page == made.written(page, samplers.PARTS), "run `make pages`"


@pytest.mark.long
def test_the_tables_of_what_goes_together_are_of_the_plugins() -> None:
    page = together.PAGE.read_text(encoding="utf-8")
    assert page == made.written(page, together.PARTS), "run `make pages`"
