"""How many GPU-hours an experiment takes on models of full size: from how long a call of each was
timed to take, and from how much of a cell the search measures on tables that were recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.gpu.data import read_speeds
from benchmarks.search.results import REFERENCE, Summary
from diffaccel.errors import InputError
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.run.outlook import Outlook
from diffaccel.store.jsonio import parse, read_json

REPLAY = Path(__file__).parents[1] / "search"


@dataclass(frozen=True)
class Hours(Outlook):
    """An outlook by the calls that are kept.

    Args:
        steps: seconds of one step of a call, by model.
        full: how many candidates' full measurements a search takes, on average, of a single
            accelerator and of a combination.
    """

    steps: Mapping[str, float] = field(default_factory=dict)
    full: tuple[float, float] = (math.nan, math.nan)

    def call(self, configuration: Configuration) -> float | None:
        per_step = self.steps.get(configuration.model)
        return None if per_step is None else per_step * configuration.steps

    def usual(self, configuration: Configuration) -> float:
        """Seconds that the search of a configuration takes where it measures as much of a cell as
        it does on the tables; a candidate's calls are as long as the baseline's."""
        measure, batch = (
            self.experiment.config.measure,
            self.experiment.spec(configuration).batch_size,
        )
        calls = math.ceil(measure.prompts / batch) + 2 * measure.pairs
        cells = [
            cell for cell in self.experiment.cells.values() if cell.configuration == configuration
        ]
        full = sum(self.full[len(cell.accelerators) > 1] for cell in cells)
        return (self.call(configuration) or math.nan) * calls * full


def read(experiment: Experiment, data: Path) -> Hours:
    """By what is kept of a platform.

    Raises:
        InputError: nothing is kept of it.
    """
    steps = {
        record.configuration.model: record.seconds / record.configuration.steps
        for record in read_speeds(data)
    }
    replay = REPLAY / data.name / "replay.json"
    if not steps or not replay.is_file():
        raise InputError(f"nothing is kept of {data.name}: there is no {data} or no {replay}")
    known = [parse(Summary, each, str(replay)) for each in read_json(replay)["summaries"]]
    return Hours(experiment, 1, steps, _full([k for k in known if k.strategy == REFERENCE]))


def _full(known: Sequence[Summary]) -> tuple[float, float]:
    """Mean full measurements of a cell, of singles and of combinations."""
    single, combined = (
        float(np.mean([np.mean(each.seconds) / each.full for each in known if each.combined is c]))
        for c in (False, True)
    )
    return single, combined


def lines(hours: Hours) -> Iterator[str]:
    """Of each model at its most steps, and of the whole experiment."""
    configurations = [*hours.experiment.configurations.values()]
    for model in hours.steps:
        own = [configuration for configuration in configurations if configuration.model == model]
        if own:
            longest = max(own, key=lambda configuration: configuration.steps)
            yield f"{longest.slug}: {_hours([longest], hours)}"
    yield f"all {len(configurations)}: {_hours(configurations, hours)}"


def _hours(configurations: Sequence[Configuration], hours: Hours) -> str:
    usual = sum(hours.usual(configuration) for configuration in configurations) / 3600
    most = sum(hours.seconds(configuration) or math.nan for configuration in configurations) / 3600
    return (
        f"about {usual:.1f} GPU-hours to search; {most:.0f} at most, with every script verified "
        "on its own and no call shorter than the baseline's"
    )
