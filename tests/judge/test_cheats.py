"""Scripts that want to pass by other means than what was asked: each fails in the stage that it
should. They and the plain pipeline are toys that draw coloured noise, without torch; sandbox, clock
and stages are the real ones.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from diffaccel.grid import Setup
from diffaccel.judge.case import Case
from diffaccel.judge.judging import Court
from diffaccel.judge.records import Asked, Judgement, JudgeOptions
from diffaccel.metrics import SCORE
from diffaccel.metrics.base import Images
from diffaccel.models import known_models
from diffaccel.records import MeasureOptions
from diffaccel.tasks import Request, sentence

pytestmark = pytest.mark.timing
HERE = Path(__file__).parent
CHEATS = sorted((HERE / "cheats").glob("*.py"))
SETUP = Setup("mini-SD1.5", "DDIM", 8)
WORDS = [f"{colour} {shape}" for colour in ["red", "green", "blue"] for shape in "ab"]
SPEC = replace(
    known_models()["mini-SD1.5"], height=8, width=8, batch_size=2, threads=1, jobs_per_gpu=1
)


@dataclass(frozen=True)
class Toy(Case):
    """A case whose plain pipeline is the toy."""

    def plain(self) -> str:
        return source(HERE / "cheats/too_slow.py").decode()


def source(path: Path) -> bytes:
    """A cheat with the toy in it, since there is none in the sandbox."""
    toy = (HERE / "toy.py").read_text(encoding="utf-8").replace("from __future__", "# from")
    text = path.read_text(encoding="utf-8")
    return re.sub("^from tests.judge.toy import .*", lambda _: toy, text, flags=re.M).encode()


def fits(images: Images, prompts: list[str], references: Images | None) -> list[float]:
    """How near the mean colour is to the one that the toy gives a prompt, 0 to 100."""
    import hashlib

    scores = []
    for image, prompt in zip(images, prompts, strict=True):
        colour = np.frombuffer(hashlib.sha256(prompt.encode()).digest()[:3], np.uint8)
        off = np.abs(image.mean(axis=(0, 1)) - colour / 2 - 63.5).mean()
        scores.append(float(100 * np.exp(-off / 20)))
    return scores


@pytest.fixture(scope="module")
def court(sandboxed: str) -> Iterator[Court]:
    measure = MeasureOptions(prompts=6, pairs=3, max_pairs=3)
    options = JudgeOptions(call_seconds=5, load_seconds=5, memory_gib=1)
    with contextlib.ExitStack() as stack:
        made = Court(Toy(SETUP, SPEC, measure, options, 0.02, "cpu"), sandboxed, stack)
        made.metrics = {SCORE: fits}
        made.prompts = WORDS
        yield made


def outcome(court: Court, path: Path, request: Request) -> Judgement:
    begun = court.begin(Asked(path.stem, sentence(request)), source(path))
    return court.try_out(begun, source(path))


@pytest.mark.parametrize("path", CHEATS, ids=lambda path: path.stem)
def test_no_cheat_passes(path: Path, court: Court) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    tries, _, becomes = told.partition("\n\nBecomes: ")
    said = outcome(court, path, Request("mini-SD1.5", "DDIM", 8, ("deepcache",), 3.0, 0.02))
    assert re.search(becomes, f"{said.outcome}: {said.reason}".removesuffix(": ")), (tries, said)
    assert (said.outcome == "passed") is (path.stem == "honest")
