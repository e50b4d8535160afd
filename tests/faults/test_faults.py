"""The short form: one fault of each kind that takes little, where little is left to be measured.

``make faults`` tries hundreds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.__main__ import TRIES, plan
from tests.faults.chain import ROOT
from tests.faults.kinds import FAULTS

SHORT = [name for name, each in FAULTS.items() if each.short]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each fault. In a process of its own: it forks."""
    data = tmp_path_factory.mktemp("faults") / "faults.jsonl"
    command = [sys.executable, "-m", "tests.faults", "--short", "--data", str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert data.exists(), done.stdout + done.stderr
    lines = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    return {line["fault"]: line for line in lines}


@pytest.mark.long
@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_or_wrong(name: str, tried: dict[str, dict[str, Any]]) -> None:
    if reason := FAULTS[name].needs():
        pytest.skip(reason)
    assert tried[name]["wrong"] == [] and tried[name]["lost"] == 0


@pytest.mark.long
def test_faults_hit(tried: dict[str, dict[str, Any]]) -> None:
    """A signal may come too late, after the end of a run; not most of them."""
    hit = [line["fault"] for line in tried.values() if line["injected"]]
    assert len(hit) > 2 * len(tried) / 3


def test_the_full_form_injects_hundreds_and_the_long_ones_begin_first() -> None:
    """Even where no file system can be mounted. What came too late is tried with another seed, for
    a while."""
    wanted = plan([name for name in FAULTS if name != "full-disk"], [])
    assert len(wanted) == len(set(wanted)) >= 300
    seconds = [FAULTS[name].seconds for name, _ in wanted]
    assert seconds == sorted(seconds, reverse=True)

    def lines(name: str, injected: list[bool]) -> list[dict[str, Any]]:
        return [{"fault": name, "seed": n, "injected": hit} for n, hit in enumerate(injected)]

    times = FAULTS["kill-run"].times
    done = lines("kill-run", [True] * (times - 2) + [False] * 2)
    assert plan(["kill-run"], done) == [("kill-run", times), ("kill-run", times + 1)]
    assert plan(["kill-run"], lines("kill-run", [True] * times)) == []
    assert plan(["kill-run"], lines("kill-run", [False] * TRIES * times)) == []


def test_every_fault_has_its_line_in_the_documentation() -> None:
    text = (Path(ROOT) / "docs/explanation/trust.md").read_text(encoding="utf-8")
    assert [name for name in FAULTS if f"| `{name}` |" not in text] == []
