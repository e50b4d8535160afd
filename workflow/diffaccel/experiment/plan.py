"""What an experiment consists of, known from its configuration alone: configurations, cells and
tasks; and the configurations that are only timed.

Everything here is cheap and pure, so that Snakemake can ask for it while it builds its graph.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from diffaccel.experiment import inputs
from diffaccel.experiment.asked import Given, given
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.limits import Limit, limits_of, loss_limit_for
from diffaccel.experiment.metrics import metrics_for, scored_by
from diffaccel.experiment.options import RULES, MeasureOptions
from diffaccel.experiment.own_tasks import read_own_tasks
from diffaccel.experiment.resolve import (
    judge_options,
    measure_options,
    model_spec,
    parse_accelerators,
    scheduler_spec,
    search_options,
)
from diffaccel.experiment.schema import Config
from diffaccel.experiment.tasks import Task
from diffaccel.machine import devices
from diffaccel.plugins.accelerators import sources
from diffaccel.plugins.metric_choice import SCORE
from diffaccel.plugins.models import ModelSpec, known_models, local_files
from diffaccel.plugins.schedulers import SchedulerSpec, is_stochastic
from diffaccel.store.jsonio import to_json

FEWER_STEPS = ("fewer_steps",)
"""The plugin that stands for the baseline pipeline with fewer steps."""
SEEDS = 2
"""Images of a prompt, where the sampler adds noise of its own."""
FRACTIONS = (0.8, 0.9, 0.95)
"""Shares of the stored bound that tasks are made for."""


@dataclass(frozen=True)
class Experiment:
    """A configuration, unfolded."""

    config: Config

    @cached_property
    def platform(self) -> str:
        """The hardware, as named or as found."""
        named = self.config.platform
        return devices.platform() if named == "auto" else named

    @property
    def on_gpu(self) -> bool:
        return self.platform != "cpu"

    @cached_property
    def specs(self) -> dict[str, ModelSpec]:
        """Every model that can be named: the configured ones and those known by name."""
        asked: dict[str, list[Limit]] = defaultdict(list)
        for task in self.user_tasks:
            if task.cell is not None:
                asked[task.cell.configuration.model] += task.limits or ()
        return {
            name: scored_by(metrics_for(self.config, name, asked[name]), spec)
            for name, spec in self._unscored.items()
        }

    @cached_property
    def _unscored(self) -> dict[str, ModelSpec]:
        """The same without their metrics, which hang on the tasks."""
        return known_models() | {
            spec.name: spec for spec in (model_spec(entry) for entry in self.config.models)
        }

    @cached_property
    def options(self) -> MeasureOptions:
        return measure_options(self.config)

    def options_for(self, configuration: Configuration) -> MeasureOptions:
        """How much is measured of a configuration: of a sampler with noise of its own, several
        images a prompt, unless that is said."""
        asked = self.config.measure.seeds
        noisy = SEEDS if is_stochastic(configuration.sampler) else 1
        seeds = noisy if asked is None else asked
        return replace(self.options, seeds=None if seeds == 1 else seeds)

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Cells of the grid, then those that only the user's tasks name; by slug."""
        configurations = self._configurations(untrained=False)
        grid = [
            Cell(configuration, accelerators)
            for configuration in configurations
            for accelerators in self._names
        ]
        asked = [task.cell for task in self.user_tasks if task.cell is not None]
        return {cell.slug: cell for cell in (*grid, *asked)}

    @cached_property
    def configurations(self) -> dict[str, Configuration]:
        """Configurations of all cells, by slug."""
        return {cell.configuration.slug: cell.configuration for cell in self.cells.values()}

    @cached_property
    def speeds(self) -> dict[str, Configuration]:
        """Configurations of untrained models, which are timed and have no cells; by slug."""
        return {
            configuration.slug: configuration
            for configuration in self._configurations(untrained=True)
        }

    def _configurations(self, *, untrained: bool) -> list[Configuration]:
        specs = [model_spec(entry) for entry in self.config.models]
        return [
            Configuration(spec.name, scheduler, steps, self.own_schedulers.get(scheduler))
            for spec in specs
            if spec.untrained is untrained
            for scheduler in self._schedulers
            for steps in self.config.steps
        ]

    @cached_property
    def _schedulers(self) -> dict[str, SchedulerSpec]:
        """The configured schedulers, by name."""
        found = [scheduler_spec(entry) for entry in self.config.schedulers]
        return {spec.name: spec for spec in found}

    @cached_property
    def own_schedulers(self) -> dict[str, SchedulerSpec]:
        """Those of them whose names say nothing but here."""
        return {
            name: spec
            for entry, (name, spec) in zip(
                self.config.schedulers, self._schedulers.items(), strict=True
            )
            if not isinstance(entry, str)
        }

    @property
    def _names(self) -> list[tuple[str, ...]]:
        """Short names of each configured accelerator or combination."""
        return [parse_accelerators(title).names for title in self.config.accelerators]

    @cached_property
    def user_tasks(self) -> list[Task]:
        """The lines of the user's task list."""
        if self.config.tasks_file is None:
            return []
        here = devices.slug(self.platform)
        path = Path(self.config.tasks_file)
        return read_own_tasks(path, self.config, self._unscored, self.own_schedulers, here)

    @cached_property
    def targets(self) -> list[Task]:
        """One a cell and configured speedup."""
        return [
            Task(f"{slug}_{speedup}x", "target", cell, speedup, None, self._loss_limit(cell), None)
            for slug, cell in self.cells.items()
            for speedup in self.config.speedups
        ]

    @cached_property
    def bound_tasks(self) -> list[Task]:
        """Those made from each cell's bound; how fast they must be is known once the bound is."""
        return [
            Task(
                f"{slug}_bound{fraction:.0%}".rstrip("%"),
                "bound",
                cell,
                None,
                fraction,
                self._loss_limit(cell),
                None,
            )
            for slug, cell in self.cells.items()
            for fraction in FRACTIONS
        ]

    def _loss_limit(self, cell: Cell) -> float:
        return loss_limit_for(self.config, cell.configuration.model)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Everything that is asked, by id."""
        return {task.id: task for task in (*self.targets, *self.bound_tasks, *self.user_tasks)}

    @cached_property
    def _by_configuration(self) -> dict[str, tuple[list[Cell], list[Task]]]:
        """Cells and tasks of each configuration."""
        parts: dict[str, tuple[list[Cell], list[Task]]] = {
            slug: ([], []) for slug in self.configurations
        }
        for cell in self.cells.values():
            parts[cell.configuration.slug][0].append(cell)
        for task in self.tasks.values():
            if task.cell is not None:
                parts[task.cell.configuration.slug][1].append(task)
        return parts

    @property
    def misunderstood(self) -> list[Task]:
        """The user's sentences that name no cell."""
        return [task for task in self.user_tasks if task.cell is None]

    @property
    def listed(self) -> list[Task]:
        """The tasks of `tasks.json`: those made from bounds, and the user's. Targets have scripts,
        too."""
        return [*self.bound_tasks, *self.user_tasks]

    @cached_property
    def given(self) -> Given:
        """The scripts that are to be judged.

        Raises:
            InputError: their prompts cannot be read, or there is none.
        """
        judge = self.config.judge
        if judge.prompts is None:
            return Given({}, [])
        models, schedulers = list(self.specs), self.own_schedulers
        found = given(Path(judge.prompts), Path(judge.scripts), models, schedulers)
        return found.without({name: spec.task for name, spec in self.specs.items() if spec.task})

    @cached_property
    def judged(self) -> dict[str, Configuration]:
        """Configurations of scripts that are to be judged, by slug."""
        return {configuration.slug: configuration for configuration in self.given.configurations}

    def scripts(self, slug: str) -> list[str]:
        """The files that are judged in a configuration."""
        folder = Path(self.config.judge.scripts)
        return [
            str(folder / f"{each.id}.py") for each in self.given.configurations[self.judged[slug]]
        ]

    def judge_job(self, slug: str) -> dict[str, Any]:
        """What `diffaccel verdicts` is told."""
        configuration = self.judged[slug]
        return {
            "configuration": to_json(configuration),
            "measure": to_json(self.options),
            "options": to_json(judge_options(self.config)),
            "loss_limit": loss_limit_for(self.config, configuration.model),
            "platform": self.platform,
            "asked": [to_json(asked) for asked in self.given.configurations[configuration]],
            "scripts": self.config.judge.scripts,
            "rules": RULES,
        }

    def fewer_steps(self, configuration: Configuration) -> Cell | None:
        """The cell that those of a configuration are compared with. It is none of `cells`, unless
        it is asked for besides."""
        return Cell(configuration, FEWER_STEPS) if self.config.fewer_steps_baseline else None

    def about(self) -> dict[str, Any]:
        """What a run notes of the experiment."""
        cells = {
            slug: [list(cell.accelerators) for cell in own]
            for slug, (own, _) in self._by_configuration.items()
        }
        budgets = {"search": self.config.search.budget, "verify": self.config.verify.budget}
        return {
            "configurations": cells,
            "budgets": {stage: seconds for stage, seconds in budgets.items() if seconds},
            "fewer_steps": list(FEWER_STEPS) if self.config.fewer_steps_baseline else None,
            "loss_limit": self.config.loss_limit,
            "loss_confidence": self.config.search.loss_confidence,
            "limits": {slug: words for slug in cells if (words := self._limits(slug))},
        }

    def _limits(self, slug: str) -> list[str]:
        """Of a configuration, in words, beside the loss limit of all."""
        model = self.configurations[slug].model
        own = loss_limit_for(self.config, model)
        first = [] if own == self.config.loss_limit else [Limit(SCORE, "loss", own)]
        return [each.words for each in (*first, *limits_of(self.config, model))]

    def spec(self, configuration: Configuration) -> ModelSpec:
        """How the model of a configuration is measured."""
        return self.specs[configuration.model]

    def files(self, configuration: Configuration) -> list[str]:
        """Local files whose change makes a baseline stale: prompts with their images, model and
        scorer."""
        spec = self.spec(configuration)
        return [spec.prompts, *inputs.files_of(spec.inputs), *map(str, local_files(spec))]

    def links(self, configuration: Configuration) -> list[str]:
        """Where those files lie that are behind links: one may lead to other files that are not
        newer."""
        named = {
            os.path.abspath(path): os.path.realpath(path) for path in self.files(configuration)
        }
        return [real for path, real in named.items() if path != real]

    def sources(self, configuration: Configuration) -> dict[str, str]:
        """Hashes of the source of what is put on in a configuration: what changed is searched
        again."""
        cells, _ = self._by_configuration[configuration.slug]
        fewer_steps = self.fewer_steps(configuration)
        every = [*cells, *([fewer_steps] if fewer_steps else [])]
        return sources({name: {} for cell in every for name in cell.accelerators})

    def heldout(self, configuration: Configuration) -> tuple[int, list[str]]:
        """How many prompts scripts are verified on besides, and the files that these are from."""
        asked, spec = self.config.verify.heldout, self.spec(configuration)
        count = self.options.prompts if asked is None else asked
        own = inputs.files_of(spec.heldout_inputs or spec.inputs)
        return count, [spec.heldout or spec.prompts, *own] if count else []

    def model_job(self, name: str) -> dict[str, Any]:
        """What `diffaccel model` is told: nothing of the configurations. All that is measured with
        a model is made from its record, which one configuration more must leave as it is."""
        return {"spec": to_json(self.specs[name])}

    def baseline_job(self, slug: str) -> dict[str, Any]:
        """What `diffaccel baseline` is told."""
        configuration = self.configurations[slug]
        return {
            "configuration": to_json(configuration),
            "options": to_json(self.options_for(configuration)),
            "platform": self.platform,
        }

    def search_job(self, slug: str) -> dict[str, Any]:
        """What `diffaccel search` is told."""
        cells, tasks = self._by_configuration[slug]
        configuration = self.configurations[slug]
        fewer_steps = self.fewer_steps(configuration)
        return {
            "cells": [to_json(cell) for cell in cells],
            "fewer_steps": to_json(fewer_steps) if fewer_steps else None,
            "tasks": [to_json(task) for task in tasks],
            "targets": list(self.config.speedups),
            "loss_limit": loss_limit_for(self.config, configuration.model),
            "search": search_options(self.config, configuration.model),
        }

    def verify_job(self, slug: str) -> dict[str, Any]:
        """What `diffaccel verify` is told."""
        count, _ = self.heldout(self.configurations[slug])
        asked = self.config.verify
        serving = {"batch_sizes": asked.batch_sizes, "calls": asked.calls}
        return {
            "heldout": count,
            "max_pairs": asked.max_pairs,
            "budget": asked.budget,
            **(serving if asked.batch_sizes else {}),
        }

    def requests(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The job of each record, by its path in a platform's folder of results."""
        configurations = (self.configurations | self.speeds).values()
        for model in dict.fromkeys(configuration.model for configuration in configurations):
            yield f"models/{model}.json", self.model_job(model)
        for slug in self.configurations:
            yield f"baseline/{slug}.json", self.baseline_job(slug)
            yield f"search/{slug}.json", self.search_job(slug)
            yield f"verify/{slug}.json", self.verify_job(slug)
        for slug in self.speeds:
            yield f"speed/{slug}.json", self.speed_job(slug)
        for slug in self.judged:
            yield f"judge/{slug}.json", self.judge_job(slug)

    def speed_job(self, slug: str) -> dict[str, Any]:
        """What `diffaccel speed` is told."""
        configuration = self.speeds[slug]
        return {
            "configuration": to_json(configuration),
            "spec": to_json(self.spec(configuration)),
            "options": to_json(self.options),
            "platform": self.platform,
            "order": {
                "candidates": self.config.speed.candidates,
                "accelerators": [list(names) for names in self._names],
            },
        }
