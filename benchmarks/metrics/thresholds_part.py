"""Limits as tests of candidates: what each keeps of those that break few scenes, and what it lets
through of those that break many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.markdown import table
from benchmarks.metrics.areas import Threshold, badness, best, breaking, safe, thresholds
from benchmarks.metrics.scored import TRUTH, Candidate, metrics_of
from benchmarks.search.truth import LIMIT
from diffaccel.experiment.limits import PRESETS, Limit, read_limit
from diffaccel.plugins.metrics import METRICS, SCORE

TRUE_LIMIT = "0.05 less"
"""Of the ground truth, as the guide has it."""

INTRO = """\
Candidates that break at most 5% of the scenes should keep a limit, the others should not.
`best` is the threshold with the largest difference between the two shares, `safe` the loosest
one that lets no candidate through that breaks more. Both are chosen on the candidates that they
are judged by here, so they look better than they are."""
PROMPTS = """\
The search tests whether the mean keeps a limit, after 8, 16, 32 and 64 prompts, with an error
of 5% in all.[^prompts] `prompts` is the median until it is clear. `undecided` is the share that
is not clear by then, `wrong` the share of what is called clear that is not so over all prompts."""


def words_of(metric: str, value: float) -> str:
    """A threshold as a limit says it."""
    if not METRICS[metric].needs_reference:
        return f"{100 * value:.1f}% loss"
    word = "at least" if METRICS[metric].better == "higher" else "at most"
    return f"{word} {value:.3g}"


def presets(metric: str) -> str | None:
    """What the preset `same` asks of a metric; of the score the loss limit."""
    return f"{LIMIT:.0%} loss" if metric == SCORE else PRESETS["same"].get(metric)


def _preset(candidates: Sequence[Candidate], metric: str, most: float) -> Threshold | None:
    if (words := presets(metric)) is None:
        return None
    sign = -1 if METRICS[metric].needs_reference and METRICS[metric].better == "higher" else 1
    value = LIMIT if metric == SCORE else read_limit(metric, words).value
    worse, bad = badness(candidates, metric), breaking(candidates, most)
    return Threshold.of(worse, bad, sign * value, sign)


def shown(candidates: Sequence[Candidate], most: float) -> str:
    """Each metric's thresholds; last the preset `same` as a whole."""
    rows = []
    for metric in metrics_of(candidates):
        found = thresholds(candidates, metric, most)
        for label, each in (
            ("preset", _preset(candidates, metric, most)),
            ("best", best(found)),
            ("safe", safe(found)),
        ):
            if each is not None:
                rows.append([f"`{metric}`", label, words_of(metric, each.value), *_shares(each)])
    rows.append(["`same` with the loss limit", "preset", "", *_shares(together(candidates, most))])
    header = ["metric", "threshold", "limit", "good kept", "bad let through"]
    return table(header, rows, left=3)


def _shares(each: Threshold) -> tuple[str, str]:
    return f"{each.kept:.0%}", f"{each.passed:.0%}"


def together(candidates: Sequence[Candidate], most: float) -> Threshold:
    """The preset `same`, the loss limit with it, as a test."""
    keeps = np.ones(len(candidates), dtype=bool)
    for metric in (SCORE, *PRESETS["same"]):
        sign = 1 if metric == SCORE else -1
        value = LIMIT if metric == SCORE else read_limit(metric, PRESETS["same"][metric]).value
        keeps &= badness(candidates, metric) <= sign * value
    bad = breaking(candidates, most)
    return Threshold(float("nan"), float(keeps[~bad].mean()), float(keeps[bad].mean()))


def tested(
    candidates: Sequence[Candidate], most: float
) -> Iterator[tuple[str, Limit | None, float]]:
    """The limits whose verdicts are counted: the presets', the best of each metric, and that of
    the ground truth; in words, as a limit, and the loss limit where it is that."""
    for metric in metrics_of(candidates):
        wanted = [] if metric == SCORE else [presets(metric)]
        chosen = best(thresholds(candidates, metric, most)).value
        for words in (*wanted, words_of(metric, chosen)):
            if words is not None and METRICS[metric].needs_reference:
                yield f"`{metric}` {words}", read_limit(metric, words), LIMIT
        if metric == SCORE:
            yield f"`{metric}` {LIMIT:.0%} loss", None, LIMIT
            yield f"`{metric}` {100 * chosen:.1f}% loss", None, chosen
    yield f"`{TRUTH}` {TRUE_LIMIT}", read_limit(TRUTH, TRUE_LIMIT), LIMIT
