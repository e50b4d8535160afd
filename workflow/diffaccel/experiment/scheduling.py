"""What is wrong with the schedulers of a configuration, a line a mistake."""

from __future__ import annotations

from collections.abc import Sequence

from diffaccel.experiment.resolve import scheduler_spec
from diffaccel.experiment.schema import SchedulerEntry
from diffaccel.plugins.schedulers import (
    NOISE_SCHEDULES,
    SPACINGS,
    SchedulerSpec,
    scheduler_named,
    signature,
)
from diffaccel.registry import UnknownNameError, suggest

FLAGS = frozenset(name for each in NOISE_SCHEDULES.values() for name in each if "sigmas" in name)
"""Options of which a scheduler can have one at most."""


def wrong_schedulers(entries: Sequence[str | SchedulerEntry]) -> list[str]:
    """Names that stand for nothing, options that a class does not take, and names given twice."""
    problems, named = list[str](), dict[str, list[str]]()
    for entry in entries:
        try:
            spec = scheduler_spec(entry)
        except UnknownNameError as error:
            problems.append(f"schedulers: {error}")
            continue
        named.setdefault(spec.name, []).append(entry if isinstance(entry, str) else entry.name)
        if isinstance(entry, SchedulerEntry):
            where = f"schedulers: {entry.name}"
            problems += [f"{where}: {problem}" for problem in _wrong_entry(entry, spec)]
    return problems + [_twice(given) for given in named.values() if len(given) > 1]


def _twice(given: Sequence[str]) -> str:
    if len(names := dict.fromkeys(given)) == 1:
        return f"schedulers: {given[0]!r} is listed twice"
    return f"schedulers: {' and '.join(map(repr, names))} are the same scheduler; remove one"


def _wrong_entry(entry: SchedulerEntry, spec: SchedulerSpec) -> list[str]:
    problems, takes = [], signature(spec.diffusers)
    if (known := _known(entry.name)) is not None:
        problems.append(f"is the name of {known} already; take another")
    for name in entry.options:
        if name not in takes:
            problems.append(f"{spec.diffusers} has no option {name!r}; {suggest(name, takes)}")
    spacing = entry.options.get("timestep_spacing")
    if spacing is not None and spacing not in SPACINGS:
        problems.append(f"timestep_spacing must be one of {', '.join(SPACINGS)}; got {spacing!r}")
    on = sorted(name for name in FLAGS if spec.options.get(name))
    if len(on) > 1:
        problems.append(f"has several noise schedules at once: {', '.join(on)}")
    return problems


def _known(name: str) -> str | None:
    """The class that a name stands for anyway, or None."""
    try:
        return scheduler_named(name).key
    except UnknownNameError:
        return None
