"""Whether a candidate keeps several limits: the loss limit of the CLIP score, and limits of other
metrics.

Each limit is put as a margin an image, which must be above 0 in the mean, and as a share: how much
of the limit is used, 1 at the limit itself. The search sees one number, the largest share in units
of the loss limit: what is below the loss limit keeps them all. It so predicts the worst of them,
and not each alone, which takes into account that they go up and down together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from diffaccel.evaluation.records import Baseline, Evaluation
from diffaccel.evaluation.sequential import InterimAnalyses, SkewedMean, clustered
from diffaccel.experiment.limits import Limit
from diffaccel.plugins.metrics import METRICS, SCORE

if TYPE_CHECKING:
    from diffaccel.evaluation.sequential import Floats

E = TypeVar("E", bound=Evaluation)
Scores = Mapping[str, Sequence[float]]
"""Of images, by metric."""


def margins(limit: Limit, baseline: Scores, own: Scores) -> Floats:
    """By how much each image keeps a limit, (n,); below 0 where it does not.

    Args:
        baseline: of the same prompts and seeds, in the same order; there may be more.
        own: of the candidate.
    """
    import numpy as np

    values = np.asarray(own[limit.metric], dtype=np.float64)
    if limit.kind == "most":
        return limit.value - values
    if limit.kind == "least":
        return values - limit.value
    sign = 1.0 if METRICS[limit.metric].better == "higher" else -1.0
    reference = np.asarray(baseline[limit.metric][: len(values)], dtype=np.float64)
    allowed = limit.value * np.abs(reference) if limit.kind == "loss" else limit.value
    return sign * (values - reference) + allowed


def used(
    limit: Limit, baseline: Scores, own: Scores, confidence: float, prompts: Sequence[str] = ()
) -> tuple[float, float]:
    """How much of a limit is used, 1 at the limit; and the upper end of its interval.

    Args:
        baseline, own: as of `margins`.
        prompts: of the images: those of the same prompt count as one observation.
    """
    each = margins(limit, baseline, own)
    mean, low = float(each.mean()), float(each.mean())
    if len(each) > 1:
        kept = clustered(each, prompts[: len(each)]) if len(set(prompts)) > 1 else each
        low, _ = SkewedMean.of(kept).interval(confidence)
    return _share(limit, baseline, len(each), mean), _share(limit, baseline, len(each), low)


def _share(limit: Limit, baseline: Scores, count: int, margin: float) -> float:
    """Of a limit, for a mean margin."""
    if limit.kind in ("most", "least") and METRICS[limit.metric].needs_reference:
        mean = limit.value - margin if limit.kind == "most" else limit.value + margin
        distance = METRICS[limit.metric].distance
        return max(0.0, distance(mean)) / distance(limit.value)
    allowed = abs(limit.value)
    if limit.kind == "loss":
        reference = baseline[limit.metric][:count]
        allowed *= abs(sum(reference) / len(reference))
    return 1 - margin / (allowed or 1.0)


def with_used(evaluation: E, baseline: Baseline, limits: Sequence[Limit]) -> E:
    """An evaluation beside its baseline, with what it uses of these limits; of none where it has
    no scores."""
    own, confidence = evaluation.scores, baseline.options.confidence
    found = {
        each.words: used(each, baseline.scores, own, confidence, baseline.subjects)
        for each in (limits if own else ())
    }
    return replace(evaluation, used=found)


def below(
    analyses: InterimAnalyses,
    limits: Sequence[Limit],
    baseline: Scores,
    own: Scores,
    loss_limit: float,
) -> bool | None:
    """Whether a candidate keeps all limits; None while that is not clear. The error of each test is
    that of all of them, divided by their number."""
    analyses = analyses.among(1 + len(limits))
    told = [analyses.below(baseline[SCORE], own[SCORE], loss_limit)]
    told += [analyses.kept(margins(each, baseline, own)) for each in limits]
    if False in told:
        return False
    return None if None in told else True


def needed(
    analyses: InterimAnalyses,
    limits: Sequence[Limit],
    baseline: Scores,
    own: Scores,
    loss_limit: float,
) -> int | None:
    """About how many prompts would tell it; None where that is thousands."""
    analyses = analyses.among(1 + len(limits))
    counts = [analyses.needed(baseline[SCORE], own[SCORE], loss_limit)]
    counts += [analyses.needed_for(margins(each, baseline, own)) for each in limits]
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(counts) else None
