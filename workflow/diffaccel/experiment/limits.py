"""What a candidate must keep beside the loss limit of the CLIP score: limits of other metrics.

``limits: {lpips: at most 0.05, psnr: at least 35, pick_score: 2% loss}`` in a configuration. All of
them must hold.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from diffaccel.registry import UnknownNameError, suggest

Kind = Literal["loss", "drop", "most", "least"]
_FORMS: Mapping[Kind, str] = {
    "loss": "{}% loss",
    "drop": "{} less",
    "most": "at most {}",
    "least": "at least {}",
}
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_PATTERNS: Mapping[Kind, re.Pattern[str]] = {
    "loss": re.compile(rf"{_NUMBER}\s*%\s*loss", re.I),
    "drop": re.compile(rf"{_NUMBER}\s+less", re.I),
    "most": re.compile(rf"(?:at most|<=)\s*{_NUMBER}", re.I),
    "least": re.compile(rf"(?:at least|>=)\s*{_NUMBER}", re.I),
}
ALLOWED = "`2% loss`, `0.05 less` (of the baseline's mean), `at most 0.05`, `at least 35`"


@dataclass(frozen=True)
class Limit:
    """A limit of the mean of a metric over the prompts.

    Args:
        metric: its name.
        kind: ``loss``: relative loss of the mean against the baseline's; ``drop``: the same,
            absolute; ``most``, ``least``: of the mean itself.
        value: of a loss, as a share.
    """

    metric: str
    kind: Kind
    value: float

    @property
    def words(self) -> str:
        """As in a configuration, with the metric's name before it."""
        value = 100 * self.value if self.kind == "loss" else self.value
        return f"{self.metric} {_FORMS[self.kind].format(f'{value:g}')}"


PRESETS: Mapping[str, Mapping[str, str]] = {
    "good": {},
    "same": {"psnr": "at least 30", "ssim": "at least 0.9"},
}
"""Ready limits. ``good``: images as good as before: the loss limit of the CLIP score alone.
``same``: images near the baseline's, too, on average. 30 dB and 0.9 are our choice, by what is
usual for lossy compression of photographs (see Hore and Ziou, "Image Quality Metrics: PSNR vs.
SSIM", 2010)."""


def read_limits(given: str | Mapping[str, str]) -> tuple[Limit, ...]:
    """The limits that a configuration says, sorted by metric.

    Raises:
        ValueError: a preset, a metric or a limit is not known; says what is allowed.
    """
    if isinstance(given, str):
        if given not in PRESETS:
            raise ValueError(
                f"unknown preset {given!r}; {suggest(given, PRESETS)}; or write the limits, as in "
                "{lpips: at most 0.05}"
            )
        given = PRESETS[given]
    return tuple(read_limit(metric, text) for metric, text in sorted(given.items()))


def wrong_limits(given: str | Mapping[str, str]) -> list[str]:
    """What is wrong with limits: a line each."""
    parts = [given] if isinstance(given, str) else [{name: given[name]} for name in given]
    problems = []
    for part in parts:
        try:
            read_limits(part)
        except ValueError as error:
            problems.append(f"limits: {error}")
    return problems


@functools.cache
def limit_named(words: str) -> Limit:
    """The limit of these `Limit.words`."""
    return read_limit(*words.split(" ", 1))


def read_limit(metric: str, text: str) -> Limit:
    """A limit from its words.

    Raises:
        ValueError: it is not understood, or does not go with the metric.
    """
    from diffaccel.plugins.metrics import METRICS, SCORE  # numpy comes with it

    if metric not in METRICS:
        raise UnknownNameError(f"unknown metric {metric!r}; {suggest(metric, METRICS)}")
    if metric == SCORE:
        raise ValueError(f"{metric}: set `loss_limit` in place of a limit")
    for kind, pattern in _PATTERNS.items():
        if (found := pattern.fullmatch(str(text).strip())) is not None:
            value = float(found[1]) / (100 if kind == "loss" else 1)
            limit = Limit(metric, kind, value)
            if problem := _problem(limit):
                raise ValueError(f"{metric}: {text!r}: {problem}")
            return limit
    raise ValueError(f"{metric}: not understood: {text!r}; write one of {ALLOWED}")


def _problem(limit: Limit) -> str | None:
    """Why a limit does not go with its metric, or None."""
    from diffaccel.plugins.metrics import METRICS

    metric = METRICS[limit.metric]
    better, reference = metric.better, metric.needs_reference
    if not math.isfinite(limit.value) or (limit.kind in ("loss", "drop") and limit.value <= 0):
        return "the value must be finite, and above 0 for `loss` and `less`"
    if limit.kind == "loss" and limit.value >= 1:
        return "a loss must be below 100%"
    if limit.kind in ("loss", "drop") and reference:
        said = "at least" if better == "higher" else "at most"
        return f"it compares with the baseline's image, so say `{said}`"
    if limit.kind == "most" and better == "higher":
        return "higher is better: say `at least`"
    if limit.kind == "least" and better == "lower":
        return "lower is better: say `at most`"
    if reference and metric.distance(limit.value) <= 0:
        return "only an identical image would pass"
    return None
