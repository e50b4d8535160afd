"""What to use of what was found: the fastest whose loss is clearly below the limit.

The baseline pipeline with fewer steps is among what may be used. Where something faster may keep
the limit, and its prompts do not tell, that is said, with how many more would and the command.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline, Evaluation, Measurement
from diffaccel.experiment.inputs import count_of
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.recipes.known import Known, Names, Option
from diffaccel.search import pareto

ON = "'search={\"budget\": null}'"
"""The configuration by which a search goes on until all is clear that its prompts can tell."""
BESIDES = "(add your --configfile, if you used one; the search then has no time limit)"


@dataclass(frozen=True)
class Choice:
    """A candidate that was timed.

    Args:
        fewer_steps: whether it is the baseline pipeline with fewer steps.
    """

    names: Names
    measured: Measurement
    fewer_steps: bool


@dataclass(frozen=True)
class Unclear:
    """A candidate whose loss may be below the limit.

    Args:
        more: about how many more prompts would tell; None where that is thousands.
        command: what evaluates it on so many; none where there are not so many.
    """

    choice: Choice
    more: int | None
    command: str


@dataclass(frozen=True)
class Advice:
    """What to use of one (model, scheduler, steps).

    Args:
        limit: that the loss must be below.
        best: the fastest that is clearly below it, and faster than the baseline pipeline; None
            where none is.
        other: where ``best`` is of fewer steps, the fastest of the accelerators that is clearly
            below it; else the fastest of fewer steps.
        unclear: of what is faster and not clear yet, what the fewest prompts would make clear.
    """

    limit: float
    best: Choice | None
    other: Choice | None
    unclear: Unclear | None


def clear(baseline: Baseline, evaluation: Evaluation, limit: float) -> bool | None:
    """Whether a loss is below a limit, with the confidence of the baseline; None where the prompts
    do not tell. What has no scores is judged by its interval."""
    if evaluation.scores:
        return baseline.analyses.below(*_scores(baseline, evaluation), limit)
    low, high = evaluation.loss_interval
    return True if high < limit else False if low >= limit else None


def more_prompts(baseline: Baseline, evaluation: Evaluation, limit: float) -> int | None:
    """About how many prompts more would tell whether a loss is below a limit; None: thousands."""
    if not evaluation.scores:
        return None
    needed = baseline.analyses.needed(*_scores(baseline, evaluation), limit)
    return None if needed is None else max(baseline.analyses.batch, needed - evaluation.prompts)


def _scores(baseline: Baseline, evaluation: Evaluation) -> tuple[list[float], list[float]]:
    from diffaccel.plugins.metrics import SCORE  # numpy comes with it: records are read without

    return baseline.scores[SCORE], evaluation.scores[SCORE]


def command(baseline: Baseline, evaluation: Evaluation, more: int | None) -> str:
    """What evaluates an answer on so many more prompts; nothing where these are thousands, or more
    than the model's file has."""
    if more is None:
        return ""
    if evaluation.prompts + more <= baseline.analyses.most:
        return f"diffaccel run --config {ON}"
    wanted = math.ceil((evaluation.prompts + more) / (baseline.options.seeds or 1))
    try:
        count_of(baseline.spec, wanted)
    except InputError:
        return ""
    return f"diffaccel run --config {ON} 'measure={{\"max_prompts\": {wanted}}}'"


def fastest_clear(
    baseline: Baseline, options: Iterable[Option], limit: float
) -> Measurement | None:
    """The fastest that is clearly below a limit and faster than the baseline pipeline."""
    fast = (each for each in options if each.speedup > 1 and each.loss < limit)
    for each in sorted(fast, key=lambda each: (-each.speedup, each.loss)):
        if clear(baseline, each.measured, limit):
            return each.measured
    return None


def advise(
    known: Known, only: Collection[Names] | None = None, limit: float | None = None
) -> Advice:
    """What to use of a configuration.

    Args:
        only: of these accelerators and combinations alone, and of fewer steps.
        limit: of the loss; by default the one that was searched with.
    """
    limit = known.loss_limit if limit is None else limit
    cells = [names for names in known.cells if only is None or names in only]
    own = _choices(known, [(names, known.options(names), False) for names in cells], limit)
    fewer = _choices(known, [(known.fewer_steps_names, known.fewer_steps_options, True)], limit)
    every = [each for each in (own, fewer) if each is not None]
    best = max(every, key=lambda each: each.measured.speedup, default=None)
    other = next((each for each in every if each is not best), None)
    return Advice(limit, best, other, _unclear(known, cells, limit, best))


def _choices(
    known: Known, cells: Sequence[tuple[Names, list[Option], bool]], limit: float
) -> Choice | None:
    """The fastest clear one of several cells."""
    found = [
        Choice(names, chosen, fewer)
        for names, options, fewer in cells
        if (chosen := fastest_clear(known.baseline, options, limit)) is not None
    ]
    return max(found, key=lambda each: each.measured.speedup, default=None)


def _unclear(
    known: Known, cells: Sequence[Names], limit: float, best: Choice | None
) -> Unclear | None:
    """Of the bounds that are faster than what is clear, the one that the fewest prompts would make
    clear."""
    least, found = best.measured.speedup if best else 1.0, []
    for names in cells:
        doubted = unclear_bound(known.baseline, known.options(names), limit)
        if doubted is not None and doubted[0].speedup > least:
            bound, more, how = doubted
            found.append(Unclear(Choice(names, bound.measured, False), more, how))
    return min(found, key=_effort, default=None)


def unclear_bound(
    baseline: Baseline, options: Iterable[Option], limit: float
) -> tuple[Option, int | None, str] | None:
    """The fastest within a limit, how many more prompts would tell whether it is, and the command;
    None where that is clear."""
    bound = pareto.bound(options, limit)
    if bound is None or clear(baseline, bound.measured, limit) is not None:
        return None
    more = more_prompts(baseline, bound.measured, limit)
    return bound, more, command(baseline, bound.measured, more)


def _effort(each: Unclear) -> tuple[float, float]:
    more = math.inf if each.more is None else each.more
    return more, -each.choice.measured.speedup


def telling(more: int | None, command: str) -> str:
    """How many prompts more it takes, in words."""
    if more is None:
        return "its loss is so close to the limit that thousands of prompts would be needed to tell"
    lacking = "" if command else ", but its prompt file has fewer"
    return f"about {more} more prompts would tell{lacking}"


def lines(advice: Advice) -> Iterable[str]:
    """The advice in words, a line each."""
    limit = f"{100 * advice.limit:g}%"
    if advice.best is None:
        yield f"To use: the baseline pipeline. Nothing faster is clearly below a loss of {limit}."
    else:
        yield f"To use: {_described(advice.best)}; clearly below {limit}."
    if advice.best is not None and advice.other is not None:
        what = "The fastest accelerator" if advice.best.fewer_steps else "Fewer steps alone"
        yield f"  {what}: {_described(advice.other)}; clearly below {limit}, too."
    if (unclear := advice.unclear) is not None:
        what = _described(unclear.choice)
        how = f", by this command {BESIDES}:" if unclear.command else "."
        yield f"  Not clear yet: {what}; {telling(unclear.more, unclear.command)}{how}"
        if unclear.command:
            yield f"    {unclear.command}"


def _described(choice: Choice) -> str:
    row = choice.measured
    low, high = row.loss_interval
    title, parameters = combination(choice.names).title, in_words(row.parameters)
    return (
        f"{title}, {row.speedup:.2f}x, loss {row.loss:+.1%} ({low:+.1%} to {high:+.1%}, "
        f"{row.prompts} prompts): {parameters}"
    )
