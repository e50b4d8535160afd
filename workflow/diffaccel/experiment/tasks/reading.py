"""Reading tasks: from a sentence to a typed request.

What people write in other ways than the exact sentence is tolerated by tables: `CLAUSES` says how
each part of a sentence may look, `SHORTENINGS` and the aliases of plugins how names may be spelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.experiment.tasks.limit_clauses import take_limits
from diffaccel.experiment.tasks.request import Request, conflict, lacking, problem
from diffaccel.machine import devices
from diffaccel.plugins import schedulers
from diffaccel.plugins.accelerators import ACCELERATORS
from diffaccel.plugins.schedulers import SCHEDULERS, SchedulerSpec
from diffaccel.registry import UnknownNameError, suggest


class TaskError(InputError):
    """A task that cannot be read.

    Args:
        message: what is wrong, in the first line; what was read and how a task reads, in others.
        understood: field of `Request` -> what was read.
        missing: fields of `Request` that the sentence needs and says nothing about.
    """

    def __init__(
        self,
        message: str,
        understood: Mapping[str, Any] | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.understood = dict(understood or {})
        self.missing = list(missing)


NUMBER = r"(?<![\w.+-])(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,3}(?!\d))?)"
PERCENT = r"\s*(?P<percent>%|percent\b)?"
LOSS = r"(?:\b(?:a|precision|clip|(?:clip[-_])?score|quality|accuracy)\s+)*\bloss\b(?:\s+limit\b)?"
AT_MOST = (
    r"(?:<=?|\u2264|:|=|\b(?:of|is|at most|up to|(?:not|never) (?:exceeding|above|over)|"
    r"(?:not|no) (?:more|longer) than|less than|below|under|within)\b)"
)
AT_LEAST = (
    r"(?:>=?|\u2265|:|=|\b(?:of|is|at least|(?:not|no|never) (?:less than|below|under)|"
    r"more than|above|over)\b)"
)
END = r"(?=\s*,?\s*(?:\b(?:with|using|to|for|at|in)\b|\||$))"
SPEEDUP = r"speed[- ]?up\b"
TIMES = r"(?:\s*(?:x|\u00d7|times|-?\s*fold)(?![\w-]))"
STEP_KINDS = r"(?:(?:inference|sampling|denoising)\s+)?"
LATENCY = r"\blatency\b(?:\s+limit\b)?"
SECONDS = r"\s*(?P<unit>ms|milliseconds?|s|sec|seconds?)\b"
PER_IMAGE = r"\s*(?:/|\b(?:per|for (?:an|each|every)|an|each|every)\b)[\s-]*image\b"
SLUG = r"(?P<value>[a-z0-9]+(?:-[a-z0-9]+)*)"
CLAUSES: tuple[tuple[str, str], ...] = (
    # As it is written exactly; a slug may hold any word of the others: ``2-fold``, ``to-the-max``.
    ("platform", rf"\brunning on {SLUG}(?=\s+in at most\b)"),
    (
        "model",
        r"\b(?:(?:can|could) you\s+)?(?:please\s+)?(?:generate|create|make|build|write)\s+"
        r"(?:(?:me|us)\s+)?(?:(?:an?|the)\s+)?"
        r"(?P<value>\S.*?)\s+pipeline\b",
    ),
    (
        "latency_s",
        rf"(?:\bper[\s-]image\s+)?{LATENCY}(?:{PER_IMAGE})?\s*(?:{AT_MOST}\s*)*+"
        rf"{NUMBER}{SECONDS}(?:{PER_IMAGE})?",
    ),
    (
        "latency_s",
        rf"(?:\b(?:taking|needing|(?:that\s+)?(?:takes|needs))\s+)?(?:{AT_MOST}\s*)?{NUMBER}{SECONDS}"
        rf"(?:{PER_IMAGE}(?:\s+{LATENCY})?|\s+{LATENCY})",
    ),
    ("max_loss", rf"{LOSS}\s*(?:{AT_MOST}\s*)*+{NUMBER}{PERCENT}"),
    ("max_loss", rf"(?:{AT_MOST}\s*)?{NUMBER}{PERCENT}\s*{LOSS}"),
    ("speedup", rf"\b{SPEEDUP}\s*(?:{AT_LEAST}\s*)*+{NUMBER}{TIMES}?"),
    ("speedup", rf"(?:{AT_LEAST}\s*)?{NUMBER}{TIMES}(?:\s+(?:{SPEEDUP}|faster|as fast))?"),
    ("steps", rf"{NUMBER}[\s-]*{STEP_KINDS}steps?\b"),
    (
        "platform",
        r"(?:\b(?:running|(?:that\s+)?runs)\s+)?\bon\s+(?:(?:an?|the)\s+)?(?P<value>[^|,\s][^|,]*?)"
        r"(?=\s*(?:[|,]|$|\b(?:and|with|using|to|for|at|in|within|accelerated|sped)\b))",
    ),
    (
        "accelerators",
        r"\b(?:accelerated|sped up)\s+(?:\|\s*)?(?:by|with|using|through)\s+"
        rf"(?P<value>[^|\s][^|]*?){END}",
    ),
    (
        "scheduler",
        r"\b(?:using|with|by)\s+(?:the\s+)?(?P<value>[^|\s][^|]*?)\s+(?:sampler|scheduler)\b",
    ),
    (
        "scheduler",
        rf"\busing\s+(?:the\s+)?(?P<value>[^|\s][^|]*?)(?:\s+and)?{END}",
    ),
)
"""Field of `Request` and a pattern of the words that give it, tried in this order on what those
before it left over, until a field has its value; ``|`` stands where something was taken out."""

LONGEST = 1000
"""Characters of a sentence; the patterns are tried at each of them."""

FILLER = frozenset(
    (
        *("a", "an", "and", "at", "by", "for", "in", "of", "the", "to", "up", "with", "using"),
        "please",
    )
)
"""Words that may be left over."""

SEPARATOR = r"\s*(?:,|&|\+|/|\band\b|\bplus\b)\s*"
"""Between accelerators; several may follow each other."""

SHORTENINGS = (
    (r".*/", ""),
    (r"stablediffusion", "sd"),
    (r"sdv(?=\d)", "sd"),
    (r"sdxlbase(10)?", "sdxl"),
)
"""Replaced in this order in a name that was folded, slashes kept: hub ids and long names."""


def fold(name: str) -> str:
    """What is left of a name when case, punctuation and long forms are not looked at."""
    folded = re.sub(r"[^\w/]|_", "", name.lower())
    for long, short in SHORTENINGS:
        folded = re.sub(long, short, folded)
    return folded


def _lookup(kind: str, given: str, known: Mapping[str, Iterable[str]]) -> str:
    """The name that is meant; ``known`` maps each to what else it is called.

    Raises:
        UnknownNameError: none is, or several are.
    """
    if given in known:
        return given
    meant = [
        name
        for name, aliases in known.items()
        if fold(given) in {fold(alias) for alias in (name, *aliases)}
    ]
    if len(meant) == 1:
        return meant[0]
    if meant:
        may_be = f"may be any of {', '.join(meant)}: write it exactly"
        raise UnknownNameError(f"the {kind} {given!r} {may_be}")
    raise UnknownNameError(f"unknown {kind} {given!r}: {suggest(given, known)}")


def model_named(given: str, models: Iterable[str]) -> str:
    """The one of these models that is meant, however it is spelled.

    Raises:
        UnknownNameError: none is, or several are.
    """
    return _lookup("model", given, {name: () for name in models})


def scheduler_named(given: str, own: Iterable[str] = ()) -> str:
    """The name of the scheduler that is meant, as in tasks.

    Args:
        own: names of a user's own schedulers.

    Raises:
        UnknownNameError: none is.
    """
    named = [name for name in own if fold(name) == fold(given)]
    return named[0] if len(named) == 1 else schedulers.scheduler_named(given).name


def accelerators_named(given: str) -> tuple[str, ...]:
    """Short names, sorted, of the accelerators that a list such as ``ToMe & deep cache`` means.

    Raises:
        UnknownNameError: one of them is not known.
    """
    known = {plugin.title: (plugin.name, plugin.package) for plugin in ACCELERATORS.values()}
    short = {plugin.title: plugin.name for plugin in ACCELERATORS.values()}
    parts = [part for part in re.split(SEPARATOR, given, flags=re.I) if part]
    return tuple(sorted(short[_lookup("accelerator", part, known)] for part in parts))


@dataclass(frozen=True)
class Known:
    """Names that a task may use besides those of plugins: of models and of schedulers."""

    models: Sequence[str]
    schedulers: Collection[str] = ()


def _read_model(match: re.Match[str], known: Known) -> str:
    return model_named(match["value"], known.models)


def _read_scheduler(match: re.Match[str], known: Known) -> str:
    return scheduler_named(match["value"], known.schedulers)


def _read_accelerators(match: re.Match[str], known: Known) -> tuple[str, ...]:
    return accelerators_named(match["value"])


def _read_platform(match: re.Match[str], known: Known) -> str:
    return devices.slug(match["value"])


def _read_steps(match: re.Match[str], known: Known) -> int:
    number = float(match["value"])
    if not number.is_integer():
        raise ValueError(f"the steps must be a whole number, not {match['value']}")
    return int(number)


def _read_speedup(match: re.Match[str], known: Known) -> float:
    return float(match["value"])


def _read_loss(match: re.Match[str], known: Known) -> float:
    return float(Decimal(match["value"]) / (100 if match["percent"] else 1))


def _read_latency(match: re.Match[str], known: Known) -> float:
    return float(Decimal(match["value"]) / (1000 if match["unit"].lower().startswith("m") else 1))


READERS: dict[str, Callable[[re.Match[str], Known], Any]] = {
    "model": _read_model,
    "scheduler": _read_scheduler,
    "steps": _read_steps,
    "accelerators": _read_accelerators,
    "speedup": _read_speedup,
    "max_loss": _read_loss,
    "platform": _read_platform,
    "latency_s": _read_latency,
}
"""Field of `Request` -> how its value is read from a match of its pattern."""


def parse(
    sentence: str, models: Sequence[str], own: Mapping[str, SchedulerSpec] | None = None
) -> Request:
    """Reads a task of any category.

    Args:
        sentence: e.g. ``Generate a SD1.5 pipeline using the DDIM sampler with 50 steps,
            accelerated by DeepCache with 3.04x speedup and precision loss not exceeding 0.02``.
        models: names of the known models.
        own: a user's own schedulers, by name.

    Raises:
        TaskError: something is missing, unknown, out of bounds, or not understood.
    """
    if len(sentence) > LONGEST:
        raise TaskError(f"a task has {LONGEST} characters at most, not {len(sentence)}: {FORM}")
    rest, limits, problems = take_limits(" ".join(_plain(sentence).split()))
    given = ["limits"] * bool(limits)
    known = Known(models, own or {})
    understood: dict[str, Any] = {"limits": limits} if limits else {}
    if wrong := problem("limits", limits):
        problems.append(wrong)
    for name, pattern in CLAUSES:
        match = None if name in given else re.search(pattern, rest, re.IGNORECASE)
        if match is None:
            continue
        given.append(name)
        rest = f"{rest[: match.start()]} | {rest[match.end() :]}"
        try:
            value = READERS[name](match, known)
            if wrong := problem(name, value):
                raise ValueError(wrong)
            understood[name] = value
        except ValueError as error:
            problems.append(str(error))
    for part in re.split(r"[|,;]|[.?!](?=\s|$)", rest):
        if not FILLER.issuperset(part.lower().split()):
            problems.append(f"not understood: {part.strip()!r}")
    if both := conflict(given):
        problems.append(both)
    if (missing := lacking(given)) or problems:
        raise TaskError(
            _explanation(sentence, problems, understood, missing, known), understood, missing
        )
    return Request(**understood, own_scheduler=(own or {}).get(understood["scheduler"]))


def _plain(sentence: str) -> str:
    """Without brackets, and with what is short written out."""
    return re.sub(r"(?<!\S)w/\s*", "with ", re.sub(r"[()]", " , ", sentence), flags=re.I)


def _explanation(
    sentence: str,
    problems: Sequence[str],
    understood: Mapping[str, Any],
    missing: Sequence[str],
    known: Known,
) -> str:
    titles = [plugin.title for plugin in ACCELERATORS.values()]
    hints = {
        "model": f"known: {', '.join(known.models)}",
        "scheduler": f"known: {', '.join((*SCHEDULERS, *known.schedulers))}",
        "steps": "e.g. 50 steps",
        "accelerators": f"known: {', '.join(titles)}",
        "platform": "e.g. on cpu",
        "latency_s": "e.g. 1.5 seconds per image",
    }
    lacks = (f"no {name} given ({hints[name]})" for name in missing)
    read = (
        f"{name} {' and '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in understood.items()
    )
    return (
        f"cannot read the task: {'; '.join([*problems, *lacks])}\n"
        f"The task: {sentence!r}\n"
        f"Understood: {', '.join(read) or 'nothing'}\n"
        f"A task reads: {FORM}"
    )


FORM = (
    "Generate a {model} pipeline using the {scheduler} sampler with {steps} steps[, accelerated by "
    "{accelerators}[ with {speedup}x speedup]][, running on {platform} in at most {latency_s} "
    "seconds per image][, {metric} not exceeding {limit}][ and precision loss not exceeding "
    "{max_loss}]"
)
"""How a task reads; what stands in brackets may be missing."""


def read_tasks(path: Path) -> list[tuple[int, str]]:
    """The sentences of a list of tasks, each with its line number.

    The file is UTF-8, one sentence a line; ``#`` begins a comment.

    Raises:
        TaskError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskError(f"cannot read the list of tasks {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TaskError(
            f"the list of tasks {path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error
    lines = (re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in text.splitlines())
    return [(number, line) for number, line in enumerate(lines, start=1) if line]
