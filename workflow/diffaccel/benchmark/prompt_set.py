"""The benchmark's prompts: five categories of tasks in words, numbered.

The first four categories are the grid of `GRID`, whatever experiment is configured. The fifth asks
for latencies between what was measured of the baseline pipeline on the experiment's platform and of
the fastest candidate there. No prompt names a loss limit: the configured one holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from diffaccel.errors import InputError
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.schema import Config
from diffaccel.experiment.tasks import Category, Request, sentence
from diffaccel.machine import devices
from diffaccel.recipes.known import Known

GRID = Path(__file__).parents[3] / "resources" / "experiments" / "real.yaml"
"""The experiment whose models, schedulers, steps, accelerators and speedups are asked for."""
FIRST_SPEEDUP = 192
"""Id of the first prompt with a speedup; categories I to III have the ids below."""
SAVED = (0.5, 0.7, 0.9)
"""Shares of the time that the fastest candidate saves, of which latencies are asked for."""


@dataclass(frozen=True)
class Prompt:
    """A task of the benchmark."""

    number: int
    request: Request

    @property
    def id(self) -> str:
        """Its name in files and paths."""
        return str(self.number)

    @property
    def category(self) -> Category:
        return self.request.category

    @property
    def text(self) -> str:
        """The task in its exact words."""
        return sentence(self.request)


@dataclass(frozen=True)
class Latency:
    """How long an image of a configuration takes: seconds of a whole call over the images of the
    call.

    Args:
        platform: as in ``results/<platform>``, by `devices.slug`.
        batch_size: images per call.
        baseline_s: of the baseline pipeline, the median of its calls.
        fastest_s: of the fastest candidate that keeps the loss limit.
    """

    configuration: Configuration
    platform: str
    batch_size: int
    baseline_s: float
    fastest_s: float

    @property
    def limits(self) -> list[float]:
        """The latencies to ask for, to three digits, widest first."""
        saved = self.baseline_s - self.fastest_s
        return [float(f"{self.baseline_s - share * saved:.3g}") for share in SAVED]


def grid() -> Experiment:
    """The experiment that categories I to IV are made from."""
    return Experiment(Config.model_validate(yaml.safe_load(GRID.read_text(encoding="utf-8"))))


def measured(experiment: Experiment) -> list[Latency]:
    """The latencies known of an experiment's configurations on its platform, in its order.

    Raises:
        RecordError: a record of a baseline or a search cannot be read.
    """
    folder = Path(experiment.config.results) / experiment.platform
    found = (
        _measured(Known.read(folder, configuration), experiment.platform)
        for slug, configuration in experiment.configurations.items()
        if experiment.spec(configuration).task is None  # they ask for text-to-image
        and all((folder / part / f"{slug}.json").exists() for part in ("baseline", "search"))
    )
    return [latency for latency in found if latency is not None]


def _measured(known: Known, platform: str) -> Latency | None:
    """None where nothing keeps the loss limit."""
    bounds = [cell.bound.speedup for cell in known.cells.values() if cell.bound is not None]
    if not bounds:
        return None
    configuration, size = known.baseline.configuration, known.baseline.images_per_call
    plain = known.baseline.seconds_per_image
    return Latency(configuration, devices.slug(platform), size, plain, plain / max(bounds))


def prompts(asked: Experiment, latencies: Iterable[Latency] = ()) -> list[Prompt]:
    """All prompts, by id.

    Args:
        asked: the experiment that categories I to IV are made from.
        latencies: what category V is made from. A configuration that cannot be made faster by the
            smallest speedup of category IV is left out: noise would decide on such a limit.

    Raises:
        InputError: categories I to III have more prompts than there are ids.
    """
    first = _numbered([*_plain(asked), *_accelerated(asked)], 1)
    if len(first) >= FIRST_SPEEDUP:
        raise InputError(
            f"categories I to III have {len(first)} prompts, but only the {FIRST_SPEEDUP - 1} "
            f"ids below {FIRST_SPEEDUP}: name fewer models, schedulers, steps or accelerators"
        )
    speedups = _numbered(_with_speedups(asked), FIRST_SPEEDUP)
    fast_enough = [
        each for each in latencies if each.baseline_s / each.fastest_s >= least_speedup(asked)
    ]
    return first + speedups + _numbered(_in_time(fast_enough), FIRST_SPEEDUP + len(speedups))


def _numbered(requests: Iterable[Request], first: int) -> list[Prompt]:
    return [Prompt(number, request) for number, request in enumerate(requests, start=first)]


def _plain(asked: Experiment) -> list[Request]:
    return [Request(**configuration.words) for configuration in asked.configurations.values()]


def _accelerated(asked: Experiment) -> list[Request]:
    """One accelerator first, then combinations."""
    requests = (
        Request(**cell.configuration.words, accelerators=cell.accelerators)
        for cell in asked.cells.values()
    )
    return sorted(requests, key=lambda request: request.category)


def _with_speedups(asked: Experiment) -> list[Request]:
    return [
        Request(
            **task.cell.configuration.words,
            accelerators=task.cell.accelerators,
            speedup=task.required,
        )
        for task in asked.targets
        if task.cell is not None
    ]


def _in_time(latencies: Iterable[Latency]) -> list[Request]:
    return [
        Request(**each.configuration.words, platform=each.platform, latency_s=seconds)
        for each in latencies
        for seconds in each.limits
    ]


def least_speedup(asked: Experiment) -> float:
    """What a configuration must be able to reach for category V to ask for a latency of it."""
    return min(asked.config.speedups, default=1.0)
