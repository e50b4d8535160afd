"""A search or a verification that may take so long, by a timer that is made up."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.records import Evaluation, SpeedRow
from diffaccel.experiment.config import ConfigError, load
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.space import ParametersDict
from diffaccel.search.answers import answer_tasks
from diffaccel.search.decide import decide_cells
from diffaccel.search.fewer_steps import decide_with_fewer_steps
from diffaccel.search.requests import EvaluationRequest, Wanted
from tests.unit.search.test_fewer_steps import FEWER_STEPS, TARGETS, TASKS, Steps, opened
from tests.unit.search.test_search import CELL, Forbidden, Noisy, cell_search


class Timer:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Slow(Noisy):
    """Takes a second for a batch of two prompts, and one for each timed call."""

    def __init__(self, timer: Timer) -> None:
        super().__init__()
        self.timer = timer
        self.prompts: list[tuple[str, int, int]] = []

    def evaluate(self, wanted: Sequence[EvaluationRequest]) -> list[Evaluation]:
        for request in wanted:
            before = request.before.prompts if request.before else 0
            self.prompts.append((str(request.parameters), before, request.prompts))
            self.timer.seconds += (request.prompts - before) / 2
        return super().evaluate(wanted)

    def time_candidates(self, wanted: Wanted, short: Container[str] = ()) -> list[SpeedRow]:
        self.timer.seconds += 3 * (1 + len(wanted))
        return super().time_candidates(wanted, short)


def test_parts_end_at_their_share_and_leave_the_rest_to_others() -> None:
    timer = Timer()
    budget = Budget(100, timer)
    with budget.until(0.3):
        assert budget.left == 30 and not budget.over
        timer.seconds += 20
        with budget.until(0.9):  # no part is longer than the one that it is in
            assert budget.left == 10
    with budget.until(0.6):
        assert budget.left == 40  # 10 more than its own share
        timer.seconds += 50
        assert budget.over and budget.left == 0
    assert budget.left == 30
    assert Budget(None, timer).left == math.inf


@pytest.mark.parametrize("seconds", [5, 30, 60])
def test_a_search_ends_in_time_with_an_answer(tmp_path: Path, seconds: float) -> None:
    timer = Timer()
    opened = replace(cell_search(tmp_path), budget=Budget(seconds, timer))
    measurer, began = Slow(timer), timer.seconds
    (known,) = decide_cells([opened], measurer, [1.5, 2.0], 0.02)
    # What was begun is ended, and something is timed however little time there is.
    longest = 8 + 3 * (1 + 1)
    assert timer.seconds - began <= seconds + longest
    assert known.bound is not None and known.bound.loss < 0.02
    assert known.time_up


def test_with_time_enough_it_is_decided_as_without_a_limit(tmp_path: Path) -> None:
    timer = Timer()
    limited = replace(cell_search(tmp_path / "limited"), budget=Budget(1e6, timer))
    (known,) = decide_cells([limited], Slow(timer), [1.5], 0.02)
    (free,) = decide_cells([cell_search(tmp_path / "free")], Slow(Timer()), [1.5], 0.02)
    assert known.bound is not None and free.bound is not None
    assert known.bound.parameters == free.bound.parameters
    assert not known.time_up and not free.time_up


def test_going_on_with_more_time_repeats_nothing(tmp_path: Path) -> None:
    timer = Timer()
    first = Slow(timer)
    opened = replace(cell_search(tmp_path), budget=Budget(60, timer))
    decide_cells([opened], first, [1.5, 2.0], 0.02)
    second = Slow(timer)
    again = cell_search(tmp_path)
    (known,) = decide_cells([again], second, [1.5, 2.0], 0.02)
    assert second.prompts and not known.time_up
    done = {(parameters, most) for parameters, _, most in first.prompts}
    assert done.isdisjoint((parameters, most) for parameters, _, most in second.prompts)
    decide_cells([cell_search(tmp_path)], Forbidden(), [1.5, 2.0], 0.02)


def test_what_was_not_tried_for_want_of_time_is_said_to_be_open(tmp_path: Path) -> None:
    timer = Timer()
    opened = replace(cell_search(tmp_path), budget=Budget(60, timer))
    measurer = Slow(timer)
    (known,) = decide_cells([opened], measurer, [], 0.02)
    task = Task("t", "user", CELL, 50.0, None, 0.02, "a sentence")
    (found,) = answer_tasks([task], [known], [opened], measurer)
    assert found.status == "infeasible" and "time was up" in found.reason and not found.clear


@pytest.mark.parametrize("seconds", [5, 30, 60, 100])
def test_comparing_with_fewer_steps_ends_in_time_too(tmp_path: Path, seconds: float) -> None:
    class Both(Slow):
        def truth(self, parameters: ParametersDict, steps: int) -> tuple[float, float]:
            return Steps(1e-5).truth(parameters, steps)

    timer = Timer()
    searches = opened(tmp_path, [CELL, FEWER_STEPS])
    budget = Budget(seconds, timer)
    for each in searches:
        each.budget, each.aside = budget, each.cell == FEWER_STEPS
    measurer, began = Both(timer), timer.seconds
    found = decide_with_fewer_steps(FEWER_STEPS, [CELL], searches, measurer, TASKS, TARGETS, 0.02)
    assert timer.seconds - began <= seconds + 2 * (8 + 3 * (1 + 1))
    assert found.cells[0].bound is not None
    fewer_steps = [found.cells[0].fewer_steps, *(answer.fewer_steps for answer in found.answers)]
    assert all(each.timed for each in fewer_steps if each and each.beats)


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("4m", 240), ("1.5 h", 5400), (30, 30), ("45", 45)]
)
def test_a_time_has_a_unit(given: str | float, seconds: float) -> None:
    assert load({"search": {"budget": given}}).search.budget == seconds
    assert load({"verify": {"budget": given}}).verify.budget == seconds


@pytest.mark.parametrize("given", ["soon", "4 days", "-3m", 0])
def test_what_is_no_time_is_refused(given: str | float) -> None:
    with pytest.raises(ConfigError, match=r"search\.budget"):
        load({"search": {"budget": given}})
