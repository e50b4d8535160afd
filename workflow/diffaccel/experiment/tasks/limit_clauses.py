"""Limits of other metrics than the loss's in the sentence of a task, as they are read and written:
``LPIPS not exceeding 0.05``, ``PSNR not below 35``, ``PickScore loss not exceeding 0.01``."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from diffaccel.experiment.limits import Kind, Limit, checked
from diffaccel.plugins.metric_choice import SCORE, metric_names

_NUMBER = r"(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,3}(?!\d))?)(?![\w.]*\w)"
_MOST = (
    r"<=?|\u2264|at most|up to|(?:not|never) (?:exceeding|above|over)|(?:not|no) more than|"
    r"less than|below|under|within"
)
_LEAST = r">=?|\u2265|at least|(?:not|no|never) (?:less than|below|under)|more than|above|over"


@functools.cache
def _by_letters() -> dict[str, str]:
    """Metrics that have a limit of their own, by what is left of their names without ``_``."""
    return {name.replace("_", ""): name for name in metric_names() if name != SCORE}


@functools.cache
def _pattern() -> re.Pattern[str]:
    """Of a clause. A name may be written with a space, a hyphen or nothing for its ``_``."""
    names = sorted(_by_letters().values(), reverse=True)
    spelled = "|".join(name.replace("_", r"[\s_-]?") for name in names)
    return re.compile(
        rf"\b(?P<metric>{spelled})(?:\s+(?P<change>loss|drop))?\s*(?:(?:of|is)\b|[:=])?\s*"
        rf"(?:(?P<most>{_MOST})|(?P<least>{_LEAST}))\s*{_NUMBER}\s*(?P<percent>%|percent\b)?",
        re.IGNORECASE,
    )


def take_limits(sentence: str) -> tuple[str, tuple[Limit, ...], list[str]]:
    """What is left of a sentence, with ``|`` in place of each clause; the limits, sorted by metric;
    and what is wrong with clauses."""
    limits: list[Limit] = []
    problems: list[str] = []

    def take(match: re.Match[str]) -> str:
        try:
            limits.append(checked(_limit(match), match[0].strip()))
        except ValueError as error:
            problems.append(str(error))
        return " | "

    rest = _pattern().sub(take, sentence)
    return rest, tuple(sorted(limits, key=lambda limit: limit.metric)), problems


def _limit(match: re.Match[str]) -> Limit:
    metric = _by_letters()[re.sub(r"[\s_-]", "", match["metric"].lower())]
    change, value = (match["change"] or "").lower(), float(match["value"])
    if match["percent"] and change != "loss":
        raise ValueError(f"{metric}: {match[0].strip()!r}: only a loss is given in percent")
    if change and match["least"]:
        raise ValueError(f"{metric}: {match[0].strip()!r}: say at most how large the {change} is")
    kinds: dict[str, Kind] = {"loss": "loss", "drop": "drop"}
    kind = kinds.get(change, "most" if match["most"] else "least")
    return Limit(metric, kind, value / 100 if match["percent"] else value)


def clauses(limits: tuple[Limit, ...]) -> Iterator[str]:
    """Each limit in its exact words."""
    from diffaccel.plugins.metrics import METRICS  # numpy comes with it

    words = {
        "loss": "{} loss not exceeding {}",
        "drop": "{} drop not exceeding {}",
        "most": "{} not exceeding {}",
        "least": "{} not below {}",
    }
    for each in limits:
        yield words[each.kind].format(METRICS[each.metric].title, float(each.value))
