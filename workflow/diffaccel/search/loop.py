"""Does what the cells of a configuration want, side by side: what is timed shares rounds."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from diffaccel.evaluation.budget import Budget
from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Cell
from diffaccel.plugins.space import ParametersDict
from diffaccel.search import pareto
from diffaccel.search.cell import CellSearch
from diffaccel.search.requests import EvaluationRequest, Measurer, Request, Requests, Wanted
from diffaccel.search.timings import LARGEST_ROUND
from diffaccel.store.jsonio import digest


def run_search(wanting: Sequence[tuple[CellSearch, Requests]], measurer: Measurer) -> None:
    """Does what the cells want, side by side, until none wants more or the time is up.

    Nothing is timed as long as a cell wants to evaluate, but once at the beginning: so the device
    is asked for as seldom as can be, and what is timed shares rounds.
    """
    searches = {search.cell: search for search, _ in wanting}
    while wanted := {search.cell: wants for search, each in wanting if (wants := next(each, []))}:
        first = next(iter(searches.values()))
        evaluated = [
            searches[cell].history.request(parameters)
            for cell, parameters in _all(wanted, "evaluate")
        ]
        _evaluate(searches, evaluated, measurer, first.budget)
        if evaluated and first.history.speeds.timings:
            continue
        timed = {digest(s): (cell, s) for cell, s in _all(wanted, "time")}
        timed |= {digest(s): (cell, s) for cell, s in _active_learning(searches, [*timed.values()])}
        _time(searches, list(timed.values())[:LARGEST_ROUND], measurer, first.budget)


def answer_at_all(
    searches: Sequence[CellSearch], measurer: Measurer, targets: Sequence[float], limit: float
) -> None:
    """Has each cell an answer, whatever the time: evaluates what the strategy wants first where
    nothing was, and times what is expected to be the fastest within the limit where nothing is."""
    by_cell = {search.cell: search for search in searches}
    for search in searches:
        if not search.predictions.estimates(limit):
            wants = next(search.explore(targets, limit), [])
            requests = [
                search.history.request(want.parameters)
                for want in wants[:1]
                if want.what == "evaluate"
            ]
            _evaluate(by_cell, requests, measurer, Budget())
    found = {search.cell: search.predictions.estimates(limit) for search in searches}
    untimed = [
        (cell, best.parameters)
        for cell, known in found.items()
        if not any(each.timed for each in known)
        and (best := pareto.nearest(known, math.inf, limit)) is not None
    ]
    _time(by_cell, untimed[:LARGEST_ROUND], measurer, Budget())


def _evaluate(
    searches: dict[Cell, CellSearch],
    wanted: Sequence[EvaluationRequest],
    measurer: Measurer,
    budget: Budget,
) -> None:
    """One at a time where the time is limited, so that it ends within one."""
    at_once = len(wanted) if math.isinf(budget.left) else 1
    for start in range(0, len(wanted), at_once or 1):
        if budget.over:
            return
        requests = wanted[start : start + at_once]
        for request, evaluation in zip(requests, measurer.evaluate(requests), strict=True):
            searches[request.cell].history.add_evaluation(evaluation)


def _all(wants: dict[Cell, list[Request]], what: str) -> list[tuple[Cell, ParametersDict]]:
    """The first of each cell, then the second of each, and so on."""
    wanted = [
        [(cell, want.parameters) for want in queue if want.what == what]
        for cell, queue in wants.items()
    ]
    rounds = itertools.zip_longest(*wanted)
    return [each for group in rounds for each in group if each is not None]


def _active_learning(
    searches: dict[Cell, CellSearch], timed: Wanted
) -> list[tuple[Cell, ParametersDict]]:
    """What teaches most about what may be chosen, if that is not known well enough from what is
    timed anyway."""
    unsure = {
        digest(parameters): (cell, parameters)
        for cell, search in searches.items()
        for parameters in search.unsure()
    }
    speeds = next(iter(searches.values())).history.speeds
    speeds.refresh()
    known = [parameters for _, parameters in timed]
    for parameters in known:
        unsure.pop(digest(parameters), None)
    chosen = speeds.active_learning([parameters for _, parameters in unsure.values()], known)
    return [unsure[digest(parameters)] for parameters in chosen]


def _time(
    searches: dict[Cell, CellSearch], wanted: Wanted, measurer: Measurer, budget: Budget
) -> None:
    """As many as there is time for."""
    if not wanted:
        return
    speeds = next(iter(searches.values())).history.speeds
    expected = list(zip(*speeds.posterior([parameters for _, parameters in wanted]), strict=True))
    kept = _in_time([mean for mean, _ in expected], speeds.baseline, budget.left)
    wanted, expected = wanted[:kept], expected[:kept]
    # Most of what is timed turns out not to matter. What does is timed again, and thoroughly.
    short = {
        key
        for cell, parameters in wanted
        if (key := digest(parameters)) not in speeds.timings
        and not searches[cell].strategy.times_all
    }
    rows = measurer.time_candidates(wanted, short)
    for (cell, _), row, guess in zip(wanted, rows, expected, strict=True):
        searches[cell].history.add_timing(row, *guess)


def _in_time(means: Sequence[float], baseline: Baseline, left: float) -> int:
    """How many of the candidates, from the first on, can be timed together in the time that is
    left; one in any case.

    Args:
        means: of their log-speedups.
        left: seconds.
    """
    plain = statistics.median(baseline.seconds)
    # Each pair has a call of the baseline, which all share; before them each is called once.
    pairs = baseline.options.pairs
    calls = itertools.accumulate(plain * (pairs + 1) / math.exp(mean) for mean in means)
    return max(1, sum(pairs * plain + seconds <= left for seconds in calls))
