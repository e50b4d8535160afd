"""What is said of a script, from what was measured of it. This measures, reads and writes nothing.

A script is ``met`` where it ran, its loss is below the limit, and its timing tells that it is as
fast as it must be; ``undecided`` where its timing does not tell.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from diffaccel.evaluation import limits
from diffaccel.evaluation.calls import MeasureError
from diffaccel.evaluation.pairs import Goal, timing_of
from diffaccel.evaluation.records import Baseline, Evaluation, Measurement, Timing
from diffaccel.experiment.limits import Limit
from diffaccel.experiment.options import SearchOptions
from diffaccel.stages.records import HeldOut, Outcome, ScriptResult, VerifiedScript
from diffaccel.stages.script import Script


def is_open(
    same: Sequence[Script], known: VerifiedScript | None, asked: Sequence[Limit] = ()
) -> bool:
    """Whether measuring may tell more than is known of scripts of the same code.

    Args:
        asked: the limits of their tasks beside those of the loss. Of the held-out prompts only what
            is used of limits is known: of one that is new nothing.
    """
    if known is None or known.row.timing is None:
        return known is None
    other = known.heldout
    if other is not None and other.scores and any(each.words not in other.used for each in asked):
        return True
    pairs = known.row.timing.pairs
    return any(
        goal.reached(pairs) is None and len(pairs) < goal.analyses[-1]
        for script in same
        for goal in script.goals
    )


def joined(before: VerifiedScript | None, again: VerifiedScript) -> VerifiedScript:
    """What was measured of a script twice: the pairs of both."""
    if before is None or before.row.timing is None:
        return again
    if again.row.timing is None:
        return again if again.row.passing is None else before
    timing = timing_of([*before.row.timing.pairs, *again.row.timing.pairs])
    timing = replace(timing, gpu=again.row.timing.gpu)
    return replace(again, row=replace(again.row, timing=timing, speedup=timing.speedup))


def _lossy(measured: Evaluation, max_loss: float, options: SearchOptions) -> str | None:
    """What is wrong with a loss, or None."""
    if (loss := options.decisive(measured, max_loss)) < max_loss:
        return None
    shares = options.shares(measured)
    if (words := options.deciding(measured, max_loss)) in shares:
        return f"{shares[words]:.2f} of the limit {words}"
    return f"{'upper end of the ' * options.upper}loss {loss:.4f}, limit {max_loss}"


def _held_out(evaluation: Evaluation, max_loss: float, options: SearchOptions) -> HeldOut:
    """What is said of a loss on prompts that nothing was chosen by."""
    reason = evaluation.failure or _lossy(evaluation, max_loss, options)
    return HeldOut(
        ok=reason is None,
        reason=reason or "",
        loss=evaluation.loss,
        loss_interval=evaluation.loss_interval,
        scores=evaluation.scores,
    )


def _seconds(timing: Timing | None, baseline: Baseline) -> float | None:
    """Of an image."""
    return statistics.median(timing.accelerated) / baseline.images_per_call if timing else None


def _outcome(
    script: Script, goal: Goal, again: Measurement, baseline: Baseline, options: SearchOptions
) -> tuple[Outcome, str]:
    """What is to be said of a script that must be so fast, and why."""
    timing = again.timing
    if again.passing is not None:
        return "undecided", f"{again.passing}: the next run tries it again"
    if again.failure is not None or timing is None:
        return "not met", again.failure or "it was not timed"
    if goal.seconds_per_image is not None:
        seconds = _seconds(timing, baseline)
        speed = f"{seconds:.3g} s an image, required {goal.seconds_per_image} s"
    elif goal is script.reported:
        speed = f"speedup {again.speedup:.2f}x, {goal.speedup:.2f}x when it was found"
    else:
        speed = f"speedup {again.speedup:.2f}x, required {goal.speedup}x"
    reached = goal.reached(timing.pairs)
    problems = [speed] if reached is False else []
    if (lossy := _lossy(again, script.answer.task.max_loss, options)) is not None:
        problems.append(lossy)
    if problems:
        return "not met", "; ".join(problems)
    if reached is None:
        return "undecided", f"{speed}: the timing does not tell after {len(timing.pairs)} pairs"
    return "met", ""


def _same_scores(again: Evaluation, before: Evaluation) -> bool | None:
    """Whether every image scores the same, by the metrics that there were both times; None where
    there are none."""
    both = again.scores.keys() & before.scores.keys()
    return all(again.scores[name] == before.scores[name] for name in both) if both else None


def result_of(
    script: Script, known: VerifiedScript, baseline: Baseline, options: SearchOptions
) -> ScriptResult:
    """What is said of a script.

    Args:
        known: all that was measured of it.

    Raises:
        MeasureError: its task was not met.
    """
    task, chosen, other = script.answer.task, script.chosen, known.heldout
    options = options.under(task.limits)
    again = limits.with_used(known.row, baseline, options.limits)
    if task.required is None:
        raise MeasureError(f"task {task.id} was not met, so there is nothing to verify")
    outcome, reason = _outcome(script, script.asked, again, baseline, options)
    kept, less = _outcome(script, script.reported, again, baseline, options)
    return ScriptResult(
        id=task.id,
        script=script.digest,
        outcome=outcome,
        kept=kept,
        confidence=script.asked.confidence,
        reason=reason or less,
        required=task.required,
        max_seconds_per_image=task.latency_s,
        max_loss=task.max_loss,
        limits=tuple(each.words for each in options.limits),
        reported_speedup=chosen.speedup,
        reported_loss=chosen.loss,
        speedup=again.speedup,
        seconds_per_image=_seconds(again.timing, baseline),
        loss=again.loss,
        loss_interval=again.loss_interval,
        timing=again.timing,
        means=again.means,
        same_scores=_same_scores(again, chosen),
        date=again.date,
        heldout=None if other is None else _held_out(other, task.max_loss, options),
        passing=again.passing is not None,
    )
