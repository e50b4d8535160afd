"""What was chosen beside a rival: what the plain pipeline with fewer steps loses at that speed.

The rival is a cell of the setup, searched as the others are. What was chosen is compared with the
rival's mildest setting that is at least as fast, which is drawn for it. Its speed may be predicted,
that of fewer steps is nearly a straight line; but what is said to be beaten is beaten by something
that was timed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.space import SettingDict, nest
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch, Estimate, Measurer, Want, Wants, settle
from diffaccel.search.decide import decide_all
from diffaccel.search.records import Rival, Search
from diffaccel.store.jsonio import digest


def decide_beside(
    rival: Cell | None,
    cells: Sequence[Cell],
    searches: Sequence[CellSearch],
    measurer: Measurer,
    asked: Sequence[Task],
    targets: Sequence[float],
    loss_limit: float,
) -> Search:
    """Decides the cells of a setup, answers its tasks, and puts the rival beside what was chosen.

    All of it is done again until nothing is left to be measured, so that it comes out the same when
    it is made again from the journals.

    Args:
        rival: the cell of the rival, if there is one; it may be one of the cells.
        cells: those that are asked for.
        searches: of all these.
    """
    while True:
        before = _measured(searches)
        known, answers = decide_all(searches, measurer, asked, targets, loss_limit)
        found = Search(searches[0].cell.setup, known, answers)
        if rival is not None:
            found = _beside(found, next(s for s in searches if s.cell == rival), measurer)
        if _measured(searches) == before:
            return replace(
                found,
                cells=[each for each in found.cells if each.cell in cells],
                rival=next((each for each in found.cells if each.cell == rival), None),
            )


def _measured(searches: Sequence[CellSearch]) -> list[int]:
    timings = [sum(map(len, search.timings.values())) for search in searches]
    return [*(len(search.drawings) for search in searches), *timings]


def _beside(found: Search, rival: CellSearch, measurer: Measurer) -> Search:
    """The same with the rival beside each bound and each answer; with nothing beside its own, or
    where it cannot be measured."""
    if rival.refused is not None:
        return found
    bounds = [each.bound for each in found.cells]
    chosen = [each for each in (*bounds, *(a.chosen for a in found.answers)) if each is not None]
    settle([(rival, _wants(rival, chosen))], measurer)
    return replace(
        found,
        cells=[replace(each, rival=_compared(rival, each.bound)) for each in found.cells],
        answers=[replace(each, rival=_compared(rival, each.chosen)) for each in found.answers],
    )


def _wants(rival: CellSearch, chosen: Sequence[Measurement]) -> Wants:
    """What must be done until each can be compared, or time is up."""
    others = [one for one in chosen if not rival.owns(one.setting)]
    while not rival.budget.over:
        fitting = [_fitting(rival, one.speedup) for one in others]
        missing = {digest(s): s for s in fitting if s and digest(s) not in rival.drawings}
        best = [(one, _best(rival, one)) for one in others]
        beating = [each.setting for one, each in best if each and _beats(rival, each, one)]
        untimed = {digest(s): s for s in beating if digest(s) not in rival.timings}
        if missing:
            yield [Want("draw", setting) for setting in missing.values()]
        elif untimed:
            yield [Want("time", setting) for setting in untimed.values()]
        else:
            return


def _fitting(rival: CellSearch, speedup: float) -> SettingDict | None:
    """The mildest setting that is at least so fast, as far as is known; None: none is."""
    settings = [nest(point) for point in rival.space.points()]
    means, _ = rival.clocked.believed(settings)
    for setting, mean in zip(settings, means, strict=True):
        if math.exp(mean) >= speedup:
            return setting
    return None


def _best(rival: CellSearch, one: Measurement) -> Estimate | None:
    """Of the rival's settings that are at least as fast, the one with the least loss."""
    return pareto.meet(rival.estimates(), one.speedup, math.inf)


def _beats(rival: CellSearch, best: Estimate, one: Measurement) -> bool:
    return best.loss < rival.options.decisive(one)


def _compared(rival: CellSearch, one: Measurement | None) -> Rival | None:
    if one is None or rival.owns(one.setting) or (best := _best(rival, one)) is None:
        return None
    drawing = rival.drawings[digest(best.setting)]
    return Rival(
        setting=best.setting,
        speedup=best.speedup,
        timed=best.timed,
        loss=drawing.loss,
        loss_interval=drawing.loss_interval,
        beats=best.timed and _beats(rival, best, one),
    )
