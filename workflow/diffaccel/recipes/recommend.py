"""What to use, from what was measured already: nothing is loaded but records."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from diffaccel.errors import InputError
from diffaccel.evaluation.records import GIB, Baseline, Measurement
from diffaccel.experiment import tasks
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.tasks.request import problem
from diffaccel.machine import devices
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.models import known_models
from diffaccel.plugins.schedulers import SCHEDULERS
from diffaccel.plugins.space import in_words
from diffaccel.recipes import advice
from diffaccel.recipes import scripts as code
from diffaccel.recipes.known import Known, Names, Option, searched
from diffaccel.recipes.recipe import Recipe, recipe_of
from diffaccel.search import pareto

EXITS = {"met": 0, "nearest": 3, "unmeasured": 4}
"""Exit status of the command by `Recommendation.status`; 1 is a crash, and 2 is wrong input."""


@dataclass(frozen=True)
class Limits:
    """What a call may take, with the batch size that was measured.

    Args:
        latency: seconds, in the median; None: however long.
        memory: bytes of a GPU's memory, or of the machine's where there is none; None: whatever.
            What does not say how much it takes is above any limit.
    """

    latency: float | None = None
    memory: float | None = None

    def keep(self, known: Known, measured: Measurement) -> bool:
        """Whether a measurement does not exceed them."""
        if self.latency is not None and known.latency(measured) > self.latency:
            return False
        taken = measured.memory
        return self.memory is None or (taken is not None and taken <= self.memory)

    def __str__(self) -> str:
        given = []
        if self.latency is not None:
            given.append(f"at most {self.latency:g} s a call")
        if self.memory is not None:
            given.append(f"at most {self.memory / GIB:g} GiB")
        return " and ".join(given)


@dataclass(frozen=True)
class Call:
    """What a call takes.

    Args:
        images: that it makes.
        seconds: in the median.
        memory: bytes, as in `Limits`; None where it was not measured.
    """

    images: int
    seconds: float
    memory: int | None

    def __str__(self) -> str:
        images = f"{self.images} image{'s' * (self.images != 1)}"
        memory = "" if self.memory is None else f", {self.memory / GIB:.3g} GiB"
        return f"{self.seconds:.3g} s a call of {images}{memory}"


@dataclass(frozen=True)
class Recommendation:
    """What is known of a configuration at a speedup.

    Args:
        status: ``met``; ``nearest`` where nothing that was measured reaches the speedup within the
            loss limit; ``unmeasured`` where there is nothing at all, and ``reason`` says what is
            there and what measures it.
        required: the speedup; None where the fastest is asked for.
        max_loss: the limit that was asked for, else the one that was searched with.
        recipes: the best of each accelerator or combination, and of fewer steps: those that are
            clearly within the limit first, then by their loss. Where none meets what was asked, the
            fastest of all within the limit, then the one with the least loss at that speedup.
        clear: of each of them, whether its loss is below the limit; None where the prompts do not
            tell.
        calls: what a call of each of them takes.
        limits: of that, in words.
    """

    status: Literal["met", "nearest", "unmeasured"]
    configuration: Configuration
    required: float | None
    max_loss: float | None
    platform: str | None
    recipes: list[Recipe]
    reason: str = ""
    clear: list[bool | None] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    limits: str = ""


def configuration_named(results: Path, model: str, scheduler: str, steps: int) -> Configuration:
    """The configuration that is meant, of all known models and those in the results.

    Raises:
        UnknownNameError: the model or the scheduler is not known.
    """
    there = [configuration for _, configuration in searched(results)]
    models = dict.fromkeys([*known_models(), *(each.model for each in there)])
    own = {each.scheduler for each in there} - {*SCHEDULERS}
    name = tasks.scheduler_named(scheduler, own)
    return Configuration(tasks.model_named(model, models), name, steps)


def recommend(
    results: Path,
    configuration: Configuration,
    speedup: float | None = None,
    max_loss: float | None = None,
    accelerators: Sequence[Names] = (),
    platform: str | None = None,
    limits: Limits | None = None,
) -> Recommendation:
    """The least loss at a speedup, of all accelerators or of these; or the fastest that clearly
    keeps the limit, as `advice` has it.

    Args:
        results: folder of all platforms.
        speedup: at least; None: the fastest.
        max_loss: what the loss must be below; else the limit that was searched with.
        platform: the hardware; else the only one that the configuration was measured on, or this
            machine.
        limits: of what a call may take. With one of its latency, the least loss that keeps it.

    Raises:
        InputError: a number is out of bounds; or the configuration was measured on several
            platforms, none of them this machine.
    """
    limits = limits or Limits()
    _check(configuration, speedup, max_loss, accelerators, limits)
    there = searched(results)
    folder = _platform([name for name, each in there if each == configuration], platform)

    def unmeasured(why: str, besides: Iterable[Names] = ()) -> Recommendation:
        names = dict.fromkeys((*besides, *accelerators))
        reason = f"{why}. {_measuring(results, folder, configuration, speedup, names)}"
        return Recommendation("unmeasured", configuration, speedup, max_loss, folder, [], reason)

    if folder is None or (folder, configuration) not in there:
        listed = ", ".join(f"{each.slug} on {name}" for name, each in there) or "nothing"
        where = f" on {platform}" if platform else ""
        return unmeasured(
            f"{configuration.slug} was not searched{where}; in {results} there is {listed}"
        )
    every = Known.read(results / folder, configuration)
    known = replace(every, fits=functools.partial(limits.keep, every))
    if not known.cells:
        return unmeasured(
            f"the baseline of {configuration.slug} was measured again since it was searched"
        )
    if missing := [names for names in accelerators if names not in known.cells]:
        what, listed = ("; ".join(map(_title, names)) for names in (missing, known.cells))
        return unmeasured(
            f"{configuration.slug} was not searched with {what}, but with {listed}", known.cells
        )
    cells = {names: known.cells[names] for names in accelerators or known.cells}
    limit = max_loss if max_loss is not None else known.loss_limit
    if speedup is None and limits.latency is None:
        status, found = _fastest(advice.advise(known, accelerators or None, limit))
    else:
        options = [known.options(names, limit) for names in cells]
        options += [known.fewer_steps_options(limit)] * (not accelerators)
        status, found = _answer(options, speedup or 0.0, limit, known.baseline)
    clear = [advice.clear(known.baseline, row, limit) for row in found]
    recipes = [recipe_of(known.baseline, row) for row in found]
    refused = "; ".join(
        f"{_title(names)}: {cell.reason}" for names, cell in cells.items() if cell.reason
    )
    images = known.baseline.images_per_call
    return Recommendation(
        status,
        configuration,
        speedup,
        limit,
        folder,
        recipes,
        refused,
        clear,
        calls=[Call(images, known.latency(row), row.memory) for row in found],
        limits=str(limits),
    )


def script(results: Path, found: Recommendation) -> str:
    """Source of a script that generates with the first recipe of a recommendation that is met.

    Args:
        results: the folder that it comes from.
    """
    known = Known.read(results / str(found.platform), found.configuration)
    asked = ", ".join(filter(None, [_wanted(found), f"within a loss of {found.max_loss:g}"]))
    return code.accelerated(known.baseline, found.recipes[0], f"diffaccel recommend: {asked}")


def _check(
    configuration: Configuration,
    speedup: float | None,
    max_loss: float | None,
    accelerators: Sequence[Names],
    limits: Limits,
) -> None:
    """Raises InputError where a value is out of the bounds that it has in tasks."""
    given: list[tuple[str, Any]] = [("steps", configuration.steps)]
    given += [("speedup", speedup)] * (speedup is not None)
    given += [("max_loss", max_loss)] * (max_loss is not None)
    given += [("accelerators", names) for names in accelerators]
    for name, value in given:
        if wrong := problem(name, value):
            raise InputError(wrong)
    for name, limit in (("max-latency", limits.latency), ("max-memory", limits.memory)):
        if limit is not None and not 0 < limit < math.inf:
            raise InputError(f"--{name} must be a number above 0; got {limit:g}")


def _answer(
    cells: Sequence[list[Option]], speedup: float, limit: float, baseline: Baseline
) -> tuple[Literal["met", "nearest"], list[Measurement]]:
    """What meets it best in each cell, what is clearly within the limit first; else what comes
    nearest in all."""
    best = (pareto.meet(options, speedup, limit) for options in cells)
    met = [each for each in best if each is not None]
    if met:

        def key(each: Option) -> tuple[bool, float, float]:
            unclear = advice.clear(baseline, each.measured, limit) is not True
            return unclear, each.loss, -each.speedup

        return "met", [each.measured for each in sorted(met, key=key)]
    every = [each for options in cells for each in options]
    near = (pareto.bound(every, limit), pareto.meet(every, speedup, math.inf))
    return "nearest", [each.measured for each in near if each is not None]


def _fastest(found: advice.Advice) -> tuple[Literal["met", "nearest"], list[Measurement]]:
    """What is clearly within the limit, then what may be, and is faster."""
    unclear = found.unclear.choice if found.unclear else None
    rows = [each.measured for each in (found.best, found.other, unclear) if each is not None]
    return ("met" if found.best else "nearest"), rows


def _title(names: Names) -> str:
    return combination(names).title


def _platform(there: Sequence[str], named: str | None) -> str | None:
    """The folder to look into, of those that have the configuration."""
    if named is not None or len(there) < 2:
        return named or next(iter(there), None)
    if (here := devices.platform()) in there:
        return here
    raise InputError(
        f"it was measured on {', '.join(there)}, and this machine is {here!r}; results of "
        "different hardware never mix: name one as --platform"
    )


def _measuring(
    results: Path,
    folder: str | None,
    configuration: Configuration,
    speedup: float | None,
    accelerators: Iterable[Names],
) -> str:
    """The command that measures it."""
    target = results / (folder or devices.platform()) / "search" / f"{configuration.slug}.json"
    own = configuration.own_scheduler
    told: dict[str, list[Any]] = {
        "models": [configuration.model] if configuration.model in known_models() else [],
        "schedulers": [own.entry if own else configuration.scheduler],
        "steps": [configuration.steps],
        "accelerators": [_title(names) for names in accelerators],
        "speedups": [speedup] if speedup is not None and speedup > 1 else [],
    }
    words = [f"'{key}={json.dumps(values)}'" for key, values in told.items() if values]
    return f"To measure it: diffaccel run {target} --config {' '.join(words)}"


def lines(found: Recommendation) -> Iterable[str]:
    """The recommendation in words, a line each."""
    what = _wanted(found)
    if found.status == "unmeasured":
        yield f"{what}: {found.reason}"
        return
    within = f"within a loss of {found.max_loss:g}, measured on {found.platform}"
    if found.status == "met":
        yield f"{what} {within}; best first:"
    else:
        nearest = "nearest:" if found.recipes else "nothing is known that comes near"
        yield f"{what} {within}: nothing that was measured; {nearest}"
    for recipe, clear, call in zip(found.recipes, found.clear, found.calls, strict=True):
        low, high = recipe.loss_interval
        doubt = (
            "; its prompts are too few to tell whether this is below the limit"
            if clear is None
            else ""
        )
        yield (
            f"  {recipe.speedup:.2f}x, loss {recipe.loss:+.1%} ({recipe.confidence:.0%} interval "
            f"{low:+.1%} to {high:+.1%}, {len(recipe.prompts)} prompts{doubt}), {call}: "
            f"{_title(tuple(recipe.parameters))}: {in_words(recipe.parameters)}"
        )
        yield from (f"    {words}" for words in recipe.limits_in_words)
    if found.reason:
        yield f"  not possible: {found.reason}"


def _wanted(found: Recommendation) -> str:
    """What was asked for, in words."""
    speed = "the fastest" if found.required is None else f"{found.required:g}x"
    if found.required is None and found.limits:
        speed = found.limits
    elif found.limits:
        speed += f", {found.limits}"
    return f"{found.configuration.title}, {speed}"
