"""How times and configurations are said, wherever a person reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from diffaccel.experiment.grid import Configuration


def duration(seconds: float) -> str:
    """In words, no more exact than one cares: ``45 s``, ``2 min 30 s``, ``12 min``,
    ``2 h 05 min``."""
    if seconds < 0.5:
        return "under 1 s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 595:
        whole, rest = divmod(10 * round(seconds / 10), 60)
        return f"{whole} min {rest} s" if rest else f"{whole} min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def configuration_title(slug: str) -> str:
    """``SD1.5_DDIM_50`` as people say it: ``SD1.5, DDIM, 50 steps``."""
    configuration = Configuration.named(slug)
    return configuration.title if configuration else slug


ONE = {
    "models": "model",
    "baseline": "baseline of",
    "search": "search of",
    "code": "script",
    "verify": "verification of",
    "speed": "speed of",
    "judge": "judging of",
}


def named(stage: str, name: str) -> str:
    """A job, as people say it: ``search of SD1.5, DDIM, 50 steps``."""
    return f"{ONE.get(stage, f'{stage} of')} {job_title(stage, name)}"


def job_title(stage: str, name: str) -> str:
    return name if stage in ("models", "code") else configuration_title(name)


def verified(outcomes: Sequence[str], what: str) -> str:
    """How many of the scripts are so, in words, and for how many there are too few timings."""
    counts = Counter(outcomes)
    unclear = counts["undecided"]
    doubt = f" (for {unclear} the timings are too few to tell)" if unclear else ""
    return f"{counts['met']} {what}{doubt}"
