"""Hostile scripts, and what becomes of each: none gets what it wants, none stops who judges it.

The first lines of each file in `attacks` say what it tries and what becomes of it: ``answered``,
where it is refused and goes on to generate, or a pattern of the reason for which it fails.
"""

from __future__ import annotations

import ast
import os
import re
import time
from pathlib import Path

import pytest

from diffaccel.benchmark.judge import processes
from diffaccel.benchmark.judge.limits import Limits
from diffaccel.benchmark.judge.mounts import SandboxMounts
from diffaccel.benchmark.judge.protocol import Failed
from diffaccel.benchmark.judge.sandbox import Sandbox

ATTACKS = sorted((Path(__file__).parent / "attacks").glob("*.py"))
LIMITS = Limits(
    memory=400 * 2**20, scratch=16 * 2**20, processes=48, load_seconds=3.0, call_seconds=1.0
)
SECRET = "hunter2"


def story(path: Path) -> tuple[str, str]:
    """What an attack tries, and what becomes of it."""
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    tries, _, becomes = told.partition("\n\nBecomes: ")
    return tries, becomes


def attack(source: str) -> str:
    """What becomes of a script that is asked to generate twice."""
    try:
        with Sandbox(source.encode(), SandboxMounts(threads=1), LIMITS) as opened:
            opened.load()
            for seed in (1, 2):
                images, _ = opened.generate(["one", "two"], [seed, seed], (4, 4))
                assert len(images) == 2 * 4 * 4 * 3
    except Failed as error:
        return str(error)
    return "answered"


def mine() -> set[str]:
    """Processes of this one that are left."""
    return {str(pid) for pid in processes.family(os.getpid())}


def there(folder: Path) -> list[tuple[str, int]]:
    """All files of a folder, and when they were changed."""
    return sorted((str(each), each.stat().st_mtime_ns) for each in folder.rglob("*"))


def test_there_are_enough() -> None:
    assert len(ATTACKS) >= 30


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path.stem)
def test_no_attack_succeeds(
    path: Path, sandboxed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, results = tmp_path / "home", tmp_path / "results"
    secret = home / ".ssh" / "id_ed25519"
    secret.parent.mkdir(parents=True)
    results.mkdir()
    secret.write_text(SECRET)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TOKEN", SECRET)
    source = path.read_text(encoding="utf-8")
    source = source.replace("@SECRET@", str(secret)).replace("@RESULTS@", str(results / "new"))
    before, processes = there(tmp_path), mine()
    start = time.perf_counter()

    became = attack(source)

    tries, becomes = story(path)
    assert re.search(becomes, became), f"{tries} {became}"
    assert "SUCCEEDED" not in became
    assert SECRET not in became
    assert became.isprintable()
    assert len(became) <= 2100
    assert there(tmp_path) == before
    assert mine() == processes, "nothing of it is left"
    # However long it would have liked to take.
    assert time.perf_counter() - start < 60


def test_the_next_script_is_none_the_worse(sandboxed: str) -> None:
    good = (
        "def load_pipeline():\n    return 7\n"
        "def generate(pipe, prompts, seeds):\n"
        "    pixel = [bytes([pipe, seed, 0]) for seed in seeds]\n"
        "    return [memoryview(each * 16).cast('B', (4, 4, 3)) for each in pixel]\n"
    )
    with Sandbox(good.encode(), SandboxMounts(), LIMITS) as opened:
        opened.load()
        images, seconds = opened.generate(["a", "b"], [3, 4], (4, 4))
        again, _ = opened.generate(["a", "b"], [3, 4], (4, 4))
    assert bytes(images) == bytes([7, 3, 0]) * 16 + bytes([7, 4, 0]) * 16
    assert images == again
    assert 0 < seconds < 1
