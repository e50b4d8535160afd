"""What the judge is told and what it says: frozen, typed, each written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from diffaccel.evaluation.records import Timing
from diffaccel.experiment.asked import Asked
from diffaccel.experiment.grid import Configuration
from diffaccel.store.jsonio import today

Outcome = Literal["passed", "static", "absolute", "relative", "undecided", "skipped", "unparsed"]
"""Passed, or the stage in which a script failed; or ``undecided``: the timing was too noisy to
tell whether it is as fast as was asked, or the machine failed; or not judged; or its prompt was not
understood."""


@dataclass(frozen=True)
class Judgement:
    """What is said of one script.

    Args:
        category: of the task, 1 to 5; 0 where its sentence was not understood.
        script: hash of its source.
        outcome: see `Outcome`.
        reason: what is wrong, or why it was not judged.
        ran_in: what it was run in, e.g. ``bubblewrap 0.8.0``; ``none`` without a sandbox, empty
            where it was not run.
        checks: of the static stage: what is wrong, by what was checked; empty where it is right.
        scores: mean per metric; ``reference_score`` is the baseline pipeline's CLIP score.
        own: share of the images that are nearer to the baseline pipeline's of their own seed than
            to those of the same prompt and another seed.
        speedup, loss, loss_interval: against the baseline pipeline, in turn with it.
        seconds_per_image: median over the calls.
        required_speedup, max_loss, max_seconds_per_image: what was asked.
    """

    id: str
    category: int
    sentence: str
    script: str
    outcome: Outcome
    reason: str
    ran_in: str
    checks: dict[str, str]
    date: str
    required_speedup: float | None = None
    max_loss: float | None = None
    max_seconds_per_image: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    reference_score: float | None = None
    own: float | None = None
    speedup: float | None = None
    loss: float | None = None
    loss_interval: tuple[float, float] | None = None
    seconds_per_image: float | None = None
    timing: Timing | None = None
    prompts: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Judged:
    """The judgements on all scripts of one configuration: a file of its own.

    Args:
        configuration: None for those whose prompts were not understood.
    """

    configuration: Configuration | None
    judgements: list[Judgement]


def not_understood(asked: Asked, reason: str) -> Judgement:
    """What is said of a script whose prompt is not understood."""
    return Judgement(
        id=asked.id,
        category=0,
        sentence=asked.sentence,
        script="",
        outcome="unparsed",
        reason=reason,
        ran_in="",
        checks={},
        date=today(),
    )
