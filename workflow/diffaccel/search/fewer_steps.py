"""What was chosen beside a fewer-steps baseline: what the baseline pipeline with fewer steps loses
at that speed.

The fewer-steps baseline is a cell of the configuration, searched as the others are. What was chosen
is compared with the fewer-steps baseline's mildest candidate that is at least as fast, which is
evaluated for it. Its speed may be predicted, that of fewer steps is nearly a straight line; but
what is said to be beaten is beaten by something that was timed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.space import ParametersDict, nest
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch
from diffaccel.search.decide import decide_all
from diffaccel.search.estimates import Estimate
from diffaccel.search.loop import run_search
from diffaccel.search.records import FewerStepsBaseline, Search
from diffaccel.search.requests import Measurer, Request, Requests
from diffaccel.store.jsonio import digest


def decide_with_fewer_steps(
    fewer_steps: Cell | None,
    cells: Sequence[Cell],
    searches: Sequence[CellSearch],
    measurer: Measurer,
    asked: Sequence[Task],
    targets: Sequence[float],
    loss_limit: float,
) -> Search:
    """Decides the cells of a configuration, answers its tasks, and puts the fewer-steps baseline
    beside what was chosen.

    All of it is done again until nothing is left to be measured, so that it comes out the same when
    it is made again from the journals.

    Args:
        fewer_steps: the cell of the fewer-steps baseline, if there is one; it may be one of the
            cells.
        cells: those that are asked for.
        searches: of all these.
    """
    while True:
        before = _measured(searches)
        known, answers = decide_all(searches, measurer, asked, targets, loss_limit)
        found = Search(searches[0].cell.configuration, known, answers)
        if fewer_steps is not None:
            own = next(s for s in searches if s.cell == fewer_steps)
            found = _beside(found, own, measurer, loss_limit)
        if _measured(searches) == before:
            return replace(
                found,
                cells=[each for each in found.cells if each.cell in cells],
                fewer_steps=next((each for each in found.cells if each.cell == fewer_steps), None),
            )


def _measured(searches: Sequence[CellSearch]) -> list[int]:
    timings = [sum(map(len, search.history.timings.values())) for search in searches]
    return [*(len(search.history.evaluations) for search in searches), *timings]


def _beside(
    found: Search, fewer_steps: CellSearch, measurer: Measurer, loss_limit: float
) -> Search:
    """The same with the fewer-steps baseline beside each bound and each answer; with nothing beside
    its own, or where it cannot be measured."""
    if fewer_steps.refused is not None:
        return found
    chosen = [(each.bound, fewer_steps) for each in found.cells]
    chosen += [(each.chosen, fewer_steps.under(each.task.limits)) for each in found.answers]
    others = [
        (one, search) for one, search in chosen if one and not search.history.owns(one.parameters)
    ]
    run_search([(fewer_steps, _wants(fewer_steps, others, loss_limit))], measurer)
    return replace(
        found,
        cells=[
            replace(each, fewer_steps=_compared(fewer_steps, each.bound, loss_limit))
            for each in found.cells
        ],
        answers=[
            replace(
                each,
                fewer_steps=_compared(fewer_steps.under(each.task.limits), each.chosen, loss_limit),
            )
            for each in found.answers
        ],
    )


def _wants(
    fewer_steps: CellSearch, chosen: Sequence[tuple[Measurement, CellSearch]], loss_limit: float
) -> Requests:
    """What must be done until each can be compared, or time is up.

    Args:
        chosen: each with the search of fewer steps by the limits that it was chosen by.
    """
    while not fewer_steps.budget.over:
        fitting = [_fitting(fewer_steps, one.speedup) for one, _ in chosen]
        missing = {
            digest(s): s for s in fitting if s and digest(s) not in fewer_steps.history.evaluations
        }
        beating = [
            best.parameters
            for one, search in chosen
            if (best := _best(search, one, loss_limit)) and _beats(search, best, one, loss_limit)
        ]
        untimed = {digest(s): s for s in beating if digest(s) not in fewer_steps.history.timings}
        if missing:
            yield [Request("evaluate", parameters) for parameters in missing.values()]
        elif untimed:
            yield [Request("time", parameters) for parameters in untimed.values()]
        else:
            return


def _fitting(fewer_steps: CellSearch, speedup: float) -> ParametersDict | None:
    """The mildest candidate that is at least so fast, as far as is known; None: none is."""
    candidates = [nest(point) for point in fewer_steps.space.points()]
    means, _ = fewer_steps.history.speeds.posterior(candidates)
    for parameters, mean in zip(candidates, means, strict=True):
        if math.exp(mean) >= speedup:
            return parameters
    return None


def _best(fewer_steps: CellSearch, one: Measurement, loss_limit: float) -> Estimate | None:
    """Of the fewer-steps baseline's candidates that are at least as fast, the one with the least
    loss."""
    return pareto.meet(fewer_steps.predictions.estimates(loss_limit), one.speedup, math.inf)


def _beats(fewer_steps: CellSearch, best: Estimate, one: Measurement, loss_limit: float) -> bool:
    return best.loss < fewer_steps.options.decisive(one, loss_limit)


def _compared(
    fewer_steps: CellSearch, one: Measurement | None, loss_limit: float
) -> FewerStepsBaseline | None:
    if (
        one is None
        or fewer_steps.history.owns(one.parameters)
        or (best := _best(fewer_steps, one, loss_limit)) is None
    ):
        return None
    evaluation = fewer_steps.history.evaluations[digest(best.parameters)]
    return FewerStepsBaseline(
        parameters=best.parameters,
        speedup=best.speedup,
        timed=best.timed,
        loss=evaluation.loss,
        loss_interval=evaluation.loss_interval,
        beats=best.timed and _beats(fewer_steps, best, one, loss_limit),
    )
