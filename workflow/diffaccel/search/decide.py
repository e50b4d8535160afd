"""Decides the cells of a configuration and answers their tasks."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from diffaccel.experiment.tasks import Task
from diffaccel.search.answers import answer_tasks
from diffaccel.search.cell import CellSearch
from diffaccel.search.loop import answer_at_all, run_search
from diffaccel.search.records import Answer, CellResult
from diffaccel.search.requests import Measurer

log = logging.getLogger(__name__)

EXPLORED = (0.35, 0.55)
"""Shares of a search's time after which no new candidate of a single accelerator, or of any, is
generated: what was found is timed."""
ANSWERED = 0.85
"""Share after which what is still open stays so; the rest is for the comparison."""


def decide_all(
    searches: Sequence[CellSearch],
    measurer: Measurer,
    asked: Sequence[Task],
    targets: Sequence[float],
    loss_limit: float,
) -> tuple[list[CellResult], list[Answer]]:
    """Decides the cells and answers the tasks. Where answering changed a bound, the bounds are
    decided again, and so are the tasks that are made from them."""
    while True:
        known = decide_cells(searches, measurer, targets, loss_limit)
        with searches[0].budget.until(ANSWERED):
            found = answer_tasks(asked, known, searches, measurer)
        if not any(map(_is_stale, known, searches)):
            return known, found


def _is_stale(known: CellResult, search: CellSearch) -> bool:
    """Whether the bound is another candidate by now, or of another speed than timings differ by."""
    before, now = known.bound, search.predictions.bound(known.loss_limit)
    if before is None or now is None:
        return before is not now
    off = abs(math.log(now.speedup / before.speedup))
    return now.parameters != before.parameters or off > search.baseline.options.spread


def decide_cells(
    searches: Sequence[CellSearch], measurer: Measurer, targets: Sequence[float], loss_limit: float
) -> list[CellResult]:
    """Decides the bound and the targets of each cell.

    Single accelerators are explored first, since their losses tell what to expect of combinations;
    what answers is timed when all are.
    """
    able = [search for search in searches if search.refused is None]
    for search in searches:
        if search.refused is not None:
            log.warning("%s: %s", search.cell.slug, search.refused)
    if able:
        budget = able[0].budget
        asked = [each for each in able if not (each.aside and budget.limited)]
        counts = sorted({len(search.cell.accelerators) for search in asked})
        for count in counts:
            same = [search for search in asked if len(search.cell.accelerators) == count]
            with budget.until(EXPLORED[count > 1]):
                run_search(
                    [(search, search.explore(targets, loss_limit)) for search in same], measurer
                )
        _decide(asked, measurer, targets, loss_limit)
        answer_at_all(able, measurer, targets, loss_limit)
    return [_cell_result(search, targets, loss_limit) for search in searches]


def _decide(
    asked: Sequence[CellSearch], measurer: Measurer, targets: Sequence[float], loss_limit: float
) -> None:
    """Until all is decided, or time is up: what is new is evaluated as long as there is time for
    it."""
    for share, explored in ((EXPLORED[-1], False), (ANSWERED, True)):
        with asked[0].budget.until(share):
            wanting = [
                (search, search.decide(targets, loss_limit, bound=True, explored=explored))
                for search in asked
            ]
            run_search(wanting, measurer)
        if not asked[0].budget.limited:
            return


def _cell_result(search: CellSearch, targets: Sequence[float], loss_limit: float) -> CellResult:
    supported, _ = search.combination.supports(search.baseline.pipeline)
    history, predictions = search.history, search.predictions
    bound = predictions.bound(loss_limit)
    return CellResult(
        cell=search.cell,
        status="measured" if search.refused is None else "refused",
        reason=search.refused or "",
        loss_limit=loss_limit,
        search=search.options,
        baseline=search.baseline.whole,
        bound=bound,
        front=predictions.front(loss_limit),
        measured=len(history.evaluations),
        timed=len(history.timings),
        seconds=history.seconds,
        candidates=search.space.size if supported else 0,
        clear=bound is None or predictions.clear(bound, bound.speedup, loss_limit),
        time_up=search.refused is None and search.time_up(targets, loss_limit),
        passing=history.passing,
    )
