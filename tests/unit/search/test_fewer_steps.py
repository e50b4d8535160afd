"""What was chosen beside plain fewer steps. The measuring is made up."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from diffaccel.evaluation.records import SpeedRow
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.space import ParametersDict
from diffaccel.search.cell import CellSearch
from diffaccel.search.fewer_steps import decide_with_fewer_steps
from diffaccel.search.records import Search
from diffaccel.search.requests import Measurer, Wanted
from tests.unit.search.test_search import CELL, Forbidden, Noisy, cell_search, response

FEWER_STEPS = Cell(CELL.configuration, ("fewer_steps",))
TARGETS = [1.2, 1.5, 2.0]
TASKS = [Task(f"t{x}", "target", CELL, x, None, 0.02, "a sentence") for x in TARGETS]
REST = 0.1
"""Share of a call's time that is not in its steps."""


class Steps(Noisy):
    """Also generates and times fewer steps, each of which costs so much loss."""

    def __init__(self, dear: float, noise: float = 0.0) -> None:
        super().__init__(noise=noise)
        self.dear = dear

    def truth(self, parameters: ParametersDict, steps: int) -> tuple[float, float]:
        if "fewer_steps" not in parameters:
            return response(parameters, steps)
        left = int(parameters["fewer_steps"]["steps"]) / steps
        return 1 / (REST + (1 - REST) * left), self.dear * (1 / left - 1)


def decided(folder: Path, measurer: Measurer, cells: Sequence[Cell] = (CELL,)) -> Search:
    searches = opened(folder, dict.fromkeys([*cells, FEWER_STEPS]))
    return decide_with_fewer_steps(FEWER_STEPS, cells, searches, measurer, TASKS, TARGETS, 0.02)


def opened(folder: Path, cells: Sequence[Cell] | dict[Cell, None]) -> list[CellSearch]:
    """They share what was timed."""
    searches = [cell_search(folder, cell=cell) for cell in cells]
    for search in searches:
        search.history.speeds = searches[0].history.speeds
    return searches


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_each_is_compared_with_steps_that_are_just_as_fast(tmp_path: Path, noise: float) -> None:
    measurer = Steps(0.003, noise)
    found = decided(tmp_path, measurer)
    assert [known.cell for known in found.cells] == [CELL]
    pairs = [(found.cells[0].bound, found.cells[0].fewer_steps)]
    pairs += [(answer.chosen, answer.fewer_steps) for answer in found.answers]
    for chosen, fewer_steps in pairs:
        assert chosen is not None and fewer_steps is not None
        left = int(fewer_steps.parameters["fewer_steps"]["steps"])
        _, loss = measurer.truth(fewer_steps.parameters, 20)
        assert fewer_steps.speedup >= chosen.speedup and fewer_steps.loss == loss
        assert fewer_steps.beats == (loss < chosen.loss)
        if not noise:  # one step more would not do
            more, _ = measurer.truth({"fewer_steps": {"steps": left + 1}}, 20)
            assert more < chosen.speedup * 1.01


def test_what_is_beaten_was_beaten_by_what_was_timed(tmp_path: Path) -> None:
    found = decided(tmp_path, Steps(1e-5))
    compared = [found.cells[0].fewer_steps, *(answer.fewer_steps for answer in found.answers)]
    losses = [found.cells[0].bound, *(answer.chosen for answer in found.answers)]
    for fewer_steps, chosen in zip(compared, losses, strict=True):
        assert fewer_steps is not None and chosen is not None
        assert fewer_steps.beats == (chosen.loss > fewer_steps.loss)
    assert compared[0] is not None and compared[0].beats and compared[0].timed


def test_little_is_measured_for_it_and_nothing_twice(tmp_path: Path) -> None:
    measurer = Steps(0.003, 0.03)
    first = decided(tmp_path, measurer)
    assert first.fewer_steps is not None and first.fewer_steps.cell == FEWER_STEPS
    assert first.fewer_steps.measured <= 10 and first.fewer_steps.timed <= 6
    assert first.seconds == first.cells[0].seconds + first.fewer_steps.seconds
    assert decided(tmp_path, Forbidden()) == first


def test_a_fewer_steps_that_is_asked_for_is_a_cell_like_others(tmp_path: Path) -> None:
    found = decided(tmp_path, Steps(0.003), [CELL, FEWER_STEPS])
    assert [known.cell for known in found.cells] == [CELL, FEWER_STEPS]
    assert found.cells[0].fewer_steps is not None and found.cells[1].fewer_steps is None
    assert found.fewer_steps == found.cells[1]
    assert found.seconds == sum(known.seconds for known in found.cells)


def test_without_a_fewer_steps_nothing_is_compared(tmp_path: Path) -> None:
    measurer = Steps(0.003)
    searches = opened(tmp_path, [CELL])
    found = decide_with_fewer_steps(None, [CELL], searches, measurer, TASKS, TARGETS, 0.02)
    assert found.fewer_steps is None and found.cells[0].fewer_steps is None
    assert all("fewer_steps" not in parameters for parameters in measurer.evaluated)


def test_a_fewer_steps_that_cannot_be_measured_is_said_to_be_so(tmp_path: Path) -> None:
    short = [
        Cell(replace(CELL.configuration, steps=1), names) for names in (("tome",), ("fewer_steps",))
    ]
    searches = opened(tmp_path, short)
    found = decide_with_fewer_steps(short[1], short[:1], searches, Quick(), [], [1.2], 0.02)
    assert found.fewer_steps is not None and found.fewer_steps.status == "refused"
    assert "needs 2 steps or more" in found.fewer_steps.reason
    assert found.cells[0].status == "measured" and found.cells[0].fewer_steps is None


class Quick(Noisy):
    """Everything is twice as fast and loses nothing."""

    def truth(self, parameters: ParametersDict, steps: int) -> tuple[float, float]:
        return 2.0, 0.0


def test_a_fewer_steps_that_fails_is_no_fewer_steps(tmp_path: Path) -> None:
    class Broken(Steps):
        def time_candidates(self, wanted: Wanted, short: Container[str] = ()) -> list[SpeedRow]:
            return [
                replace(row, timing=None, failure="out of memory")
                if "fewer_steps" in row.parameters
                else row
                for row in super().time_candidates(wanted, short)
            ]

    found = decided(tmp_path, Broken(1e-5))
    assert all(
        fewer_steps is None or not fewer_steps.beats
        for fewer_steps in (
            found.cells[0].fewer_steps,
            *(answer.fewer_steps for answer in found.answers),
        )
    )
