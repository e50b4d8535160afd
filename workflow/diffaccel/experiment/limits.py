"""What a candidate must keep beside the loss limit of the CLIP score: limits of other metrics.

``limits: {lpips: at most 0.05, psnr: at least 35, pick_score: 2% loss}`` in a configuration, or of
one of its models. All of them must hold. ``clip_score: 2% loss`` takes the place of
``loss_limit``.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from diffaccel.plugins.metric_choice import SCORE
from diffaccel.registry import UnknownNameError, suggest

if TYPE_CHECKING:
    from diffaccel.experiment.schema import Config

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
    "drop": re.compile(rf"{_NUMBER}\s+(?:less|drop)", re.I),
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
    read = (read_limit(metric, text) for metric, text in sorted(given.items()))
    return tuple(each for each in read if each.metric != SCORE)


def limits_of(config: Config, model: str) -> tuple[Limit, ...]:
    """What is asked for of a model beside the loss limit: of its own limits where it has some, else
    of those of all."""
    return read_limits(_given(config, model))


def loss_limit_for(config: Config, model: str) -> float:
    """The loss limit of the CLIP score of a model, as a share: of the limits that hold for it where
    they name one."""
    given = _given(config, model)
    words = None if isinstance(given, str) else given.get(SCORE)
    return config.loss_limit if words is None else read_limit(SCORE, words).value


def _given(config: Config, model: str) -> str | dict[str, str]:
    own = (
        each.limits for each in config.models if not isinstance(each, str) and each.name == model
    )
    return next((each for each in own if each is not None), config.limits)


def merged(general: Iterable[Limit], named: Iterable[Limit]) -> tuple[Limit, ...]:
    """Limits by which those that are named take the place of others of the same metric."""
    every = {each.metric: each for each in (*general, *named)}
    return tuple(every[metric] for metric in sorted(every))


def wrong_limits(config: Config) -> list[str]:
    """What is wrong with limits, of all models and of single ones: a line each."""
    entries = [each for each in config.models if not isinstance(each, str) and each.limits]
    own = [(f"models: {each.name}: limits", each.limits or {}) for each in entries]
    return [
        line for where, given in [("limits", config.limits), *own] for line in _wrong(where, given)
    ]


def _wrong(where: str, given: str | Mapping[str, str]) -> list[str]:
    parts = [given] if isinstance(given, str) else [{name: given[name]} for name in given]
    problems = []
    for part in parts:
        try:
            read_limits(part)
        except ValueError as error:
            problems.append(f"{where}: {error}")
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
    from diffaccel.plugins.metrics import METRICS  # numpy comes with it

    if metric not in METRICS:
        raise UnknownNameError(f"unknown metric {metric!r}; {suggest(metric, METRICS)}")
    for kind, pattern in _PATTERNS.items():
        if (found := pattern.fullmatch(str(text).strip())) is not None:
            value = float(found[1]) / (100 if kind == "loss" else 1)
            return checked(Limit(metric, kind, value), text)
    raise ValueError(f"{metric}: not understood: {text!r}; write one of {ALLOWED}")


def checked(limit: Limit, text: str) -> Limit:
    """A limit that goes with its metric.

    Args:
        text: how it was given.

    Raises:
        ValueError: it does not; says why.
    """
    if problem := _problem(limit):
        raise ValueError(f"{limit.metric}: {text!r}: {problem}")
    return limit


def _problem(limit: Limit) -> str | None:
    """Why a limit does not go with its metric, or None."""
    from diffaccel.plugins.metrics import METRICS

    if limit.metric == SCORE and limit.kind != "loss":
        return "its limit is a relative loss: say `2% loss`, or set `loss_limit`"
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
