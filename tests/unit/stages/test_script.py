"""Scripts as modules."""

from __future__ import annotations

import py_compile
from pathlib import Path

import pytest

from diffaccel.evaluation.calls import MeasureError
from diffaccel.stages.script import load_script


def test_nothing_is_compiled_beside_a_script(tmp_path: Path) -> None:
    script = tmp_path / "one.py"
    script.write_text("def answer():\n    return 42\n")
    assert load_script(script).answer() == 42
    assert list(tmp_path.iterdir()) == [script]


def test_a_damaged_cache_beside_a_script_says_nothing_about_it(tmp_path: Path) -> None:
    """A full disk has left a compiled file cut off: python writes one without looking whether all
    of it was taken."""
    script = tmp_path / "one.py"
    script.write_text("def answer():\n    return 42\n")
    compiled = Path(py_compile.compile(str(script), doraise=True))
    compiled.write_bytes(compiled.read_bytes()[:40])
    assert load_script(script).answer() == 42


def test_a_script_is_found_by_what_looks_for_its_source(tmp_path: Path) -> None:
    script = tmp_path / "one.py"
    script.write_text("import inspect\n\n\ndef text():\n    return inspect.getsource(text)\n")
    module = load_script(script)
    assert module.__file__ == str(script)
    assert module.text().startswith("def text():")


def test_what_is_no_python_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "one.txt"
    script.write_text("x = 1\n")
    with pytest.raises(MeasureError, match=r"one\.txt is not a Python file"):
        load_script(script)
