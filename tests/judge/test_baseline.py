"""What goes wrong with the baseline pipeline or the machine is never held against a script."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from diffaccel.benchmark.judge import processes, sandbox
from diffaccel.benchmark.judge.judging import Evaluator
from diffaccel.benchmark.judge.limits import Limits
from diffaccel.benchmark.judge.mounts import SandboxMounts
from diffaccel.benchmark.judge.protocol import Disturbed, Failed
from diffaccel.benchmark.judge.records import Judgement
from diffaccel.benchmark.judge.sandbox import Sandbox
from diffaccel.experiment.asked import Asked
from diffaccel.experiment.options import JudgeOptions, MeasureOptions
from diffaccel.experiment.tasks import Request, sentence
from diffaccel.plugins.metrics import SCORE
from tests.judge.test_cheats import CONFIGURATION, HERE, SPEC, WORDS, Toy, fits, source

pytestmark = pytest.mark.timing
LIMITS = Limits(memory=400 * 2**20, scratch=2**20, load_seconds=10, call_seconds=2)
FAULTY = """
import os, time
from tests.judge.toy import image_of

calls = []

def load_pipeline():
    return None

def generate(pipe, prompts, seeds):
    calls.append(1)
    if len(calls) == 5:
        {fault}
    return [image_of(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
"""


@dataclass(frozen=True)
class Faulty(Toy):
    """Its baseline pipeline has a fault in its fifth call, so often."""

    fault: str = ""
    folder: Path = Path()
    times: int = 1

    def baseline_script(self) -> str:
        begun = len(list(self.folder.iterdir()))
        (self.folder / str(begun)).touch()
        fault = self.fault if begun < self.times else "pass"
        path = self.folder.with_suffix(".py")
        path.write_text(FAULTY.format(fault=fault))
        return source(path).decode()


Judge = Callable[..., Judgement]


@pytest.fixture
def judge(sandboxed: str, tmp_path: Path) -> Iterator[Judge]:
    with contextlib.ExitStack() as stack:

        def judged(fault: str, times: int) -> Judgement:
            (tmp_path / "begun").mkdir()
            measure = MeasureOptions(prompts=6, pairs=3, max_pairs=3)
            options = JudgeOptions(call_seconds=2, load_seconds=10, memory_gib=1)
            more: dict[str, Any] = {"fault": fault, "folder": tmp_path / "begun", "times": times}
            judged_by = Faulty(CONFIGURATION, SPEC, measure, options, 0.02, "cpu", **more)
            evaluator = Evaluator(judged_by, sandboxed, stack)
            evaluator.metrics = {SCORE: fits}
            evaluator.trials.prompts = WORDS
            honest = source(HERE / "cheats/honest.py")
            request = Request("mini-SD1.5", "DDIM", 8, ("deepcache",), 3.0, 0.02)
            return evaluator.try_out(evaluator.begin(Asked("a", sentence(request)), honest), honest)

        yield judged


FAULTS = ["time.sleep(60)", "raise MemoryError"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_does_not_come_twice_is_none(fault: str, judge: Judge) -> None:
    said = judge(fault, 1)
    assert (said.outcome, said.reason) == ("passed", "")


def test_one_that_does_is_the_machines(judge: Judge) -> None:
    said = judge("os._exit(1)", 9)
    assert said.outcome == "undecided"
    assert "the baseline pipeline could not generate: it ended" in said.reason


def test_what_takes_too_long_is_not_left_running(judge: Judge) -> None:
    before = set(processes.family(os.getpid()))
    assert judge("time.sleep(60)", 9).outcome == "undecided"
    assert set(processes.family(os.getpid())) == before


def test_calls_do_not_add_up_to_a_limit(sandboxed: str) -> None:
    tells = (
        "import resource\n"
        "def load_pipeline():\n    raise ValueError(resource.getrlimit(resource.RLIMIT_CPU))\n"
    )
    with pytest.raises(Failed, match=r"\(-1, -1\)"), opened(tells, LIMITS) as there:
        there.load()


def opened(text: str, limits: Limits) -> Sandbox:
    return Sandbox(text.encode(), SandboxMounts(threads=1), limits)


WAITS = (
    "import time\ntaken = []\n"
    "def load_pipeline():\n    taken.append(b'x' * {size})\n    time.sleep(4)\n"
)


@pytest.mark.parametrize(("size", "kind"), [(2**10, Disturbed), (2**27, Failed)])
def test_who_took_the_memory_is_to_blame(
    size: int, kind: type[Exception], sandboxed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of 10 GiB of which 200 MiB were free, and soon none are."""
    free = iter([200 * 2**20] * 4)
    monkeypatch.setattr(processes, "memory", lambda: (next(free, 0), 10 * 2**30))
    monkeypatch.setattr(sandbox, "WATCH_SECONDS", 0.5)
    with pytest.raises(kind, match="memory"), opened(WAITS.format(size=size), LIMITS) as there:
        there.load()


def test_the_baseline_pipeline_goes_on_while_others_take_what_they_may(
    sandboxed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "memory", lambda: (0, 10 * 2**30))
    limits = Limits(memory=400 * 2**20, load_seconds=10, floor=0.0)
    with opened(WAITS.format(size=1), limits) as there:
        there.load()
