"""What images and their scores say: the loss, its interval, blank images, and whether a baseline
can carry a loss. Nothing here calls a pipeline."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diffaccel.evaluation.records import Baseline
from diffaccel.evaluation.sequential import SkewedMean, clustered
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.metrics.base import Images

_CLEARLY = 3.0
"""Standard errors by which a baseline must score above shuffled prompts."""


def check_baseline(baseline: Baseline) -> str | None:
    """Why a baseline cannot carry a relative loss, or None; see `check_scores`."""
    own = baseline.scores[SCORE]
    # Records of before hold the mean alone.
    return check_scores(own, baseline.shuffled_scores or [baseline.shuffled_score] * len(own))


def check_scores(own: Sequence[float], shuffled: Sequence[float]) -> str | None:
    """Why a relative loss of scores would mean nothing, or None.

    Images must fit their own prompts clearly better than each other's: where they do not, the score
    says nothing of the images, and neither does a loss of it.

    Args:
        own: of each image with its prompt.
        shuffled: of each image with another's prompt, in the same order.
    """
    if len(own) < 2:
        return f"{len(own)} prompt(s) cannot tell a loss from noise; use at least 2"
    better = np.asarray(own) - np.asarray(shuffled)
    error = float(better.std(ddof=1) / math.sqrt(len(better)))
    if better.mean() > _CLEARLY * error:
        return None
    return (
        f"the baseline's images score {np.mean(own):.2f} with their own prompts and "
        f"{np.mean(shuffled):.2f} with each other's (standard error of the difference "
        f"{error:.2f}): the score does not tell whether an image fits its prompt, so a loss of it "
        "would mean nothing. Check the model, the scorer and the prompts"
    )


def loss_of(baseline: Sequence[float], accelerated: Sequence[float]) -> float:
    """Relative loss of the mean score."""
    reference = float(np.mean(baseline))
    return (reference - float(np.mean(accelerated))) / reference


def loss_interval(
    baseline: Sequence[float],
    accelerated: Sequence[float],
    confidence: float,
    prompts: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Confidence interval of the relative loss, by Hall's transformation of its studentized value;
    the loss, a ratio of means, is taken as linear around its value (the delta method).

    Args:
        baseline, accelerated: scores of the same prompts and seeds.
        prompts: where one is there several times, with other seeds, its images count as one
            observation; None: all differ.
    """
    first, second = np.asarray(baseline), np.asarray(accelerated)
    loss = loss_of(baseline, accelerated)
    if len(first) < 2:
        return loss, loss
    each = (first - second - loss * first) / first.mean()
    if prompts is not None and len(set(prompts)) > 1:
        each = clustered(each, prompts)
    low, high = SkewedMean.of(each).interval(confidence)
    return loss + low, loss + high


def not_numbers(scores: Mapping[str, Sequence[float]]) -> str | None:
    """Which scores are not numbers, or None."""
    wrong = {name: int(np.sum(~np.isfinite(values))) for name, values in scores.items()}
    listed = [f"{name} of {count} images" for name, count in wrong.items() if count]
    return f"not a number: {', '.join(listed)}" if listed else None


def image_digests(images: Images) -> list[str]:
    """Hash of each image's pixels."""
    return [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in images]


def blank(images: Images) -> NDArray[np.bool_]:
    """Which images are of one colour."""
    same: NDArray[np.bool_] = (images == images[:, :1, :1]).all(axis=(1, 2, 3))
    return same


def count_blank(images: Images, references: Images | None = None) -> int:
    """How many images are of one colour where the baseline's of the same prompts are not."""
    excused = False if references is None else blank(references)
    return int(np.sum(blank(images) & ~np.asarray(excused)))
