"""Scripts that want to pass by other means than what was asked: each fails in the stage that it
should. They and the baseline pipeline are toys that generate coloured noise, without torch;
sandbox, timing and stages are the real ones. Those in `cheats/pipelines` are written for a real
pipeline, and are told by what they read; what is seen while they run is in `test_witness`.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaccel.benchmark.judge.generated import Generated
from diffaccel.benchmark.judge.judge_configuration import JudgeConfiguration
from diffaccel.benchmark.judge.judging import Evaluator
from diffaccel.benchmark.judge.records import Judgement
from diffaccel.benchmark.judge.static import examine
from diffaccel.experiment.asked import Asked
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import JudgeOptions, MeasureOptions
from diffaccel.experiment.tasks import Request, sentence
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.metrics.base import Images
from diffaccel.plugins.models import known_models

pytestmark = pytest.mark.timing
HERE = Path(__file__).parent
CHEATS = sorted((HERE / "cheats").glob("*.py"))
PIPELINES = sorted((HERE / "cheats/pipelines").glob("*.py"))
CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 8)
WORDS = [f"{colour} {shape}" for colour in ["red", "green", "blue"] for shape in "ab"]
SPEC = replace(
    known_models()["mini-SD1.5"], height=8, width=8, batch_size=2, threads=1, jobs_per_gpu=1
)


@dataclass(frozen=True)
class Toy(JudgeConfiguration):
    """A configuration whose baseline pipeline is the toy."""

    def baseline_script(self) -> str:
        return source(HERE / "cheats/too_slow.py").decode()

    def watched(self, device: str) -> None:
        """There is no pipeline to watch."""


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
def evaluator(sandboxed: str) -> Iterator[Evaluator]:
    measure = MeasureOptions(prompts=6, pairs=3, max_pairs=3)
    options = JudgeOptions(call_seconds=5, load_seconds=5, memory_gib=1)
    with contextlib.ExitStack() as stack:
        made = Evaluator(Toy(CONFIGURATION, SPEC, measure, options, 0.02, "cpu"), sandboxed, stack)
        made.metrics = {SCORE: fits}
        made.trials.prompts = WORDS
        yield made


def outcome(evaluator: Evaluator, path: Path, request: Request) -> Judgement:
    begun = evaluator.begin(Asked(path.stem, sentence(request)), source(path))
    return evaluator.try_out(begun, source(path))


@pytest.mark.parametrize("path", CHEATS, ids=lambda path: path.stem)
def test_no_cheat_passes(path: Path, evaluator: Evaluator) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    tries, _, becomes = told.partition("\n\nBecomes: ")
    said = outcome(evaluator, path, Request("mini-SD1.5", "DDIM", 8, ("deepcache",), 3.0, 0.02))
    assert re.search(becomes, f"{said.outcome}: {said.reason}".removesuffix(": ")), (tries, said)
    assert (said.outcome == "passed") is (path.stem == "honest")


@pytest.mark.parametrize(
    ("accelerators", "off", "seconds", "idle"),
    [
        (("deepcache",), 0, 1.0, True),
        (("deepcache",), 1, 1.01, True),
        (("deepcache",), 0, 0.5, False),
        (("deepcache",), 9, 1.0, False),
        ((), 0, 1.0, False),
    ],
)
def test_an_accelerator_that_changes_nothing_is_none(
    accelerators: tuple[str, ...], off: int, seconds: float, idle: bool, evaluator: Evaluator
) -> None:
    """However little was asked of it: the same images, no faster."""
    toy: dict[str, Any] = {}
    exec((HERE / "toy.py").read_text(encoding="utf-8"), toy)
    words = [word for word in WORDS for _ in range(2)]
    images = np.stack([toy["image_of"](word, seed, 0) for seed, word in enumerate(words)])
    pairs = [(1.0, seconds * noise) for noise in (0.99, 1.01, 1.0, 0.98, 1.02, 1.0)]
    generated = Generated(words, [images + np.uint8(off)], [images], pairs, [1.0])
    asked = Asked("a", sentence(Request("mini-SD1.5", "DDIM", 8, accelerators)))
    said = evaluator._measured(evaluator.begin(asked, b""), generated)
    assert ("no other images, and no faster" in evaluator._misses(said, generated)) is idle


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_no_cheat_reads_as_if_it_were_honest(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    tries, _, becomes = told.partition("\n\nBecomes: ")
    judged_by = JudgeConfiguration(
        CONFIGURATION, known_models()["mini-SD1.5"], MeasureOptions(), JudgeOptions(), 0.02, "cpu"
    )
    request = Request("mini-SD1.5", "DDIM", 8, ("deepcache",), 3.0, 0.02)
    found = examine(path.read_bytes(), judged_by.wanted(request))
    wrong = "; ".join(f"static: {name}: {text}" for name, text in found.items() if text)
    assert re.search(becomes, wrong), (tries, found)
    assert (wrong == "") is path.stem.startswith("honest")


def test_there_are_enough() -> None:
    assert len(PIPELINES) >= 30
