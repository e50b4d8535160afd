"""What a search finds: of each cell, and of each task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffaccel.evaluation.records import Environment, Measurement
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.options import SearchOptions
from diffaccel.experiment.tasks.task import Task
from diffaccel.plugins.space import ParametersDict


@dataclass(frozen=True)
class FewerStepsBaseline:
    """What stands beside a chosen candidate: of the fewer-steps baseline's candidates that are at
    least as fast, the one with the least loss.

    Args:
        timed: whether its speedup was measured; else it is predicted.
        beats: whether it loses strictly less than what was chosen; such a one was timed.
    """

    parameters: ParametersDict
    speedup: float
    timed: bool
    loss: float
    loss_interval: tuple[float, float]
    beats: bool


@dataclass(frozen=True)
class CellResult:
    """What is known of one cell.

    Args:
        status: ``measured``, or ``refused`` where the accelerators cannot work on the pipeline
            or its baseline cannot carry a relative loss; ``reason`` says which.
        bound: the fastest measurement with a loss below the limit, if any.
        clear: whether the prompts tell that its loss is, with the configured confidence.
        front: the candidates that no other beats in both speedup and loss, mildest first.
        measured: how many candidates were evaluated and scored; they are in the journal.
        timed: how many were timed, some of them not evaluated then; of the others the speed was
            only predicted.
        seconds: that evaluation and timing took.
        candidates: how many candidates the space has, before any is forbidden.
        fewer_steps: what the fewer-steps baseline loses at the speed of the bound.
        time_up: whether the search's time was up before all that was worth measuring was.
        passing: how many candidates failed for what may pass; the next run tries them again.
    """

    cell: Cell
    status: Literal["measured", "refused"]
    reason: str
    loss_limit: float
    search: SearchOptions
    baseline: str
    bound: Measurement | None
    front: list[Measurement]
    measured: int
    timed: int
    seconds: float
    candidates: int
    clear: bool = True
    fewer_steps: FewerStepsBaseline | None = None
    time_up: bool = False
    passing: int = 0


@dataclass(frozen=True)
class Answer:
    """What became of a task.

    Args:
        status: ``met``; ``infeasible`` with a reason; ``open`` where nothing meets it and something
            failed for what may pass, so that the next run tries again; ``unparsed`` where the
            sentence was not understood.
        chosen: the measurement that meets the task with the least loss.
        nearest: where nothing meets it, the nearest reachable.
        environment: where it was measured.
        clear: whether the prompts tell, with the configured confidence, that the chosen loss is
            below the limit, or that nothing evaluated that is fast enough has such a loss.
        fewer_steps: what the fewer-steps baseline loses at the speed of ``chosen``.
    """

    task: Task
    status: Literal["met", "infeasible", "open", "unparsed"]
    reason: str
    chosen: Measurement | None
    nearest: Measurement | None
    environment: Environment | None
    clear: bool = True
    fewer_steps: FewerStepsBaseline | None = None


@dataclass(frozen=True)
class Search:
    """Everything that was found of one configuration: a file of its own.

    Args:
        configuration: None for the sentences that were not understood.
        cells: one an accelerator or combination.
        answers: to the tasks of these cells.
        fewer_steps: the cell that all are compared with. It is among ``cells`` only if it was asked
            for: it has no targets, tasks or scripts of its own, and enters no store.
    """

    configuration: Configuration | None
    cells: list[CellResult]
    answers: list[Answer]
    fewer_steps: CellResult | None = None

    @property
    def seconds(self) -> float:
        """That measuring all of it took."""
        every = {each.cell: each for each in (*self.cells, self.fewer_steps) if each is not None}
        return sum(each.seconds for each in every.values())

    @property
    def passing(self) -> int:
        """How many candidates failed for what may pass."""
        return sum(each.passing for each in (*self.cells, self.fewer_steps) if each is not None)

    def answer(self, name: str) -> Answer | None:
        """The answer to a task, by id."""
        return next((each for each in self.answers if each.task.id == name), None)


@dataclass(frozen=True)
class Found:
    """What a search found of a cell: it is kept whatever is searched later.

    Args:
        answers: to the tasks that were met.
        date: when it was found, in UTC.
    """

    cell: CellResult
    answers: list[Answer]
    date: str
