"""What to use, from what was measured already: nothing is loaded but records."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffaccel import devices, pareto, tasks
from diffaccel.accelerators import combination
from diffaccel.errors import InputError
from diffaccel.grid import Setup
from diffaccel.jsonio import digest, read_record
from diffaccel.models import known_models
from diffaccel.recipes import recipe_of
from diffaccel.records import Baseline, Frontier, Measurement, Recipe, Search
from diffaccel.space import in_words
from diffaccel.tasks.request import problem

Names = tuple[str, ...]
EXITS = {"met": 0, "nearest": 3, "unmeasured": 4}
"""Exit status of the command by `Recommendation.status`; 1 is a crash, and 2 is wrong input."""


@dataclass(frozen=True)
class Recommendation:
    """What is known of a setup at a speedup.

    Args:
        status: ``met``; ``nearest`` where nothing that was measured reaches the speedup within the
            loss limit; ``unmeasured`` where there is nothing at all, and ``reason`` says what is
            there and what measures it.
        max_loss: the limit that was asked for, else the one that was searched with.
        recipes: the best of each accelerator or combination, the least loss first; where none
            meets what was asked, the fastest of all within the limit, then the one with the least
            loss at that speedup.
    """

    status: Literal["met", "nearest", "unmeasured"]
    setup: Setup
    required: float
    max_loss: float | None
    platform: str | None
    recipes: list[Recipe]
    reason: str = ""


def setup_named(results: Path, model: str, scheduler: str, steps: int) -> Setup:
    """The setup that is meant, of all known models and those in the results.

    Raises:
        UnknownNameError: the model or the scheduler is not known.
    """
    models = [*known_models(), *(setup.model for _, setup in measured(results))]
    return Setup(
        tasks.model_named(model, dict.fromkeys(models)), tasks.scheduler_named(scheduler), steps
    )


def measured(results: Path) -> list[tuple[str, Setup]]:
    """Platform and setup of all that was searched, from the names of files alone."""
    found = []
    for path in sorted(results.glob("*/search/*_*_*.json")):
        model, scheduler, steps = path.stem.rsplit("_", 2)
        if steps.isdecimal():
            found.append((path.parts[-3], Setup(model, scheduler, int(steps))))
    return found


def recommend(
    results: Path,
    setup: Setup,
    speedup: float,
    max_loss: float | None = None,
    accelerators: Sequence[Names] = (),
    platform: str | None = None,
) -> Recommendation:
    """The least loss at a speedup, of all accelerators or of these.

    Args:
        results: folder of all platforms.
        max_loss: what the loss must be below; else the limit that was searched with.
        platform: the hardware; else the only one that the setup was measured on, or this machine.

    Raises:
        InputError: a number is out of bounds; or the setup was measured on several platforms, none
            of them this machine.
    """
    asked = [("steps", setup.steps), ("speedup", speedup), ("max_loss", max_loss)]
    asked += [("accelerators", names) for names in accelerators]
    for name, value in asked:
        if value is not None and (wrong := problem(name, value)):
            raise InputError(wrong)
    there = measured(results)
    folder = _platform([name for name, each in there if each == setup], platform)

    def unmeasured(why: str, besides: Sequence[Names] = ()) -> Recommendation:
        names = dict.fromkeys((*besides, *accelerators))
        reason = f"{why}. {_measuring(results, folder, setup, speedup, names)}"
        return Recommendation("unmeasured", setup, speedup, max_loss, folder, [], reason)

    if folder is None or (folder, setup) not in there:
        listed = ", ".join(f"{each.slug} on {name}" for name, each in there) or "nothing"
        where = f" on {platform}" if platform else ""
        return unmeasured(f"{setup.slug} was not searched{where}; in {results} there is {listed}")
    found = read_record(Search, results / folder / "search" / f"{setup.slug}.json")
    cells = [cell for cell in found.cells if not accelerators or _own(cell) in accelerators]
    searched = [_own(cell) for cell in found.cells]
    if missing := [names for names in accelerators if names not in searched]:
        asked, listed = ("; ".join(map(_title, names)) for names in (missing, searched))
        return unmeasured(
            f"{setup.slug} was not searched with {asked}, but with {listed}", searched
        )
    limit = max_loss if max_loss is not None else found.cells[0].loss_limit
    options = {_own(cell): _options(cell, found) for cell in cells}
    refused = "; ".join(f"{_title(_own(cell))}: {cell.reason}" for cell in cells if cell.reason)
    chosen = _chosen(options, lambda known: pareto.meet(known, speedup, limit))
    status: Literal["met", "nearest"] = "met" if chosen else "nearest"
    if not chosen:
        chosen = _nearest([each for known in options.values() for each in known], speedup, limit)
    baseline = read_record(Baseline, results / folder / "baseline" / f"{setup.slug}.json")
    recipes = [recipe_of(baseline, each.measured) for each in chosen]
    return Recommendation(status, setup, speedup, limit, folder, recipes, refused)


@dataclass(frozen=True)
class _Option:
    """A measurement, with the loss that the search compares with limits."""

    measured: Measurement
    loss: float

    @property
    def speedup(self) -> float:
        return self.measured.speedup


def _own(cell: Frontier) -> Names:
    return cell.cell.accelerators


def _title(names: Names) -> str:
    return combination(names).title


def _options(cell: Frontier, found: Search) -> list[_Option]:
    """All that is known of a cell; of one setting what stands in the front, if it does."""
    answers = [a.chosen for a in found.answers if a.task.cell == cell.cell]
    rows = [row for row in (*answers, cell.bound, *cell.front) if row is not None]
    last = {digest(row.setting): row for row in rows}
    return [_Option(row, cell.search.decisive(row)) for row in last.values()]


def _chosen(
    options: dict[Names, list[_Option]], choose: Callable[[Iterable[_Option]], _Option | None]
) -> list[_Option]:
    """What is chosen of each cell; the least loss first (ties: the faster)."""
    found = [best for known in options.values() if (best := choose(known)) is not None]
    return sorted(found, key=lambda each: (each.loss, -each.speedup))


def _nearest(known: Sequence[_Option], speedup: float, limit: float) -> list[_Option]:
    """The fastest within the limit, and the least loss at that speedup."""
    found = (pareto.bound(known, limit), pareto.meet(known, speedup, math.inf))
    return [each for each in found if each is not None]


def _platform(there: Sequence[str], named: str | None) -> str | None:
    """The folder to look into, of those that have the setup."""
    if named is not None or len(there) < 2:
        return named or next(iter(there), None)
    if (here := devices.platform()) in there:
        return here
    raise InputError(
        f"it was measured on {', '.join(there)}, and this machine is {here!r}; results of "
        "different hardware never mix: name one as --platform"
    )


def _measuring(
    results: Path, folder: str | None, setup: Setup, speedup: float, accelerators: Iterable[Names]
) -> str:
    """The command that measures it."""
    target = results / (folder or devices.platform()) / "search" / f"{setup.slug}.json"
    told: dict[str, list[str | int | float]] = {
        "models": [setup.model] if setup.model in known_models() else [],
        "schedulers": [setup.scheduler],
        "steps": [setup.steps],
        "accelerators": [_title(names) for names in accelerators],
        "speedups": [speedup] if speedup > 1 else [],
    }
    words = [f"'{key}={json.dumps(values)}'" for key, values in told.items() if values]
    return f"To measure it: diffaccel run {target} --config {' '.join(words)}"


def lines(found: Recommendation) -> Iterable[str]:
    """The recommendation in words, a line each."""
    what = (
        f"{found.setup.model}, {found.setup.scheduler}, {found.setup.steps} steps, "
        f"{found.required:g}x"
    )
    if found.status == "unmeasured":
        yield f"{what}: {found.reason}"
        return
    within = f"within a loss of {found.max_loss:g}, measured on {found.platform}"
    if found.status == "met":
        yield f"{what} {within}; best first:"
    else:
        nearest = "nearest:" if found.recipes else "nothing is known that comes near"
        yield f"{what} {within}: nothing that was measured; {nearest}"
    for recipe in found.recipes:
        low, high = recipe.loss_interval
        yield (
            f"  {recipe.speedup:.2f}x, loss {recipe.loss:+.1%} ({recipe.confidence:.0%} interval "
            f"{low:+.1%} to {high:+.1%}, {len(recipe.prompts)} prompts): "
            f"{_title(tuple(recipe.setting))}: {in_words(recipe.setting)}"
        )
    if found.reason:
        yield f"  not possible: {found.reason}"
