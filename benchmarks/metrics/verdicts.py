"""How many prompts a verdict on a limit takes, by the test that the search uses.

Each candidate is a population: prompts are sampled from it with replacement, and analysed as a
search does, so that it can be asked of more prompts than were evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.metrics.scored import Candidate, Floats
from diffaccel.evaluation.limits import margins
from diffaccel.evaluation.sequential import InterimAnalyses
from diffaccel.experiment.limits import Limit
from diffaccel.plugins.metrics import SCORE

ANALYSES = InterimAnalyses(batch=8, usual=16, most=64, confidence=0.95)
"""Of one limit alone: after 8, 16, 32 and 64 prompts; nothing is said to be kept before 16."""
SAMPLES = 20
"""Of each candidate."""


@dataclass(frozen=True)
class Needed:
    """What was said of all candidates.

    Args:
        prompts: until it was said, the median; infinite where most is not said with `ANALYSES`.
        undecided: shares of what is not said yet, by prompts.
        wrong: share of what is said that is not so of the whole candidate.
    """

    prompts: float
    undecided: dict[int, float]
    wrong: float


def margins_of(candidate: Candidate, limit: Limit | None, loss_limit: float) -> Floats:
    """By how much each image keeps a limit; of the score, where there is none, the loss limit."""
    if limit is not None:
        return margins(limit, candidate.baseline, candidate.own)
    own, before = np.asarray(candidate.own[SCORE]), np.asarray(candidate.baseline[SCORE])
    found: Floats = own - (1 - loss_limit) * before
    return found


def said(analyses: InterimAnalyses, sampled: Floats) -> tuple[int, bool] | None:
    """After how many prompts something is clear, and what; None where it is not even at the end."""
    for count in analyses.at:
        found = analyses.kept(sampled[:count])
        if found is not None:
            return count, found
    return None


def needed(
    populations: Sequence[Floats],
    analyses: InterimAnalyses = ANALYSES,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Needed:
    """What is said of populations of margins, each sampled so often."""
    random, counts, wrong = np.random.default_rng(seed), list[float](), 0
    for each in populations:
        for _ in range(samples):
            found = said(analyses, each[random.integers(0, len(each), analyses.most)])
            counts.append(math.inf if found is None else found[0])
            wrong += found is not None and found[1] != (each.mean() > 0)
    told = [count for count in counts if math.isfinite(count)]
    return Needed(
        float(np.median(counts)),
        {most: sum(count > most for count in counts) / len(counts) for most in analyses.at},
        wrong / len(told) if told else 0.0,
    )
