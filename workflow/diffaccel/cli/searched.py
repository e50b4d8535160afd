"""What was searched of an experiment, and saying it in the terminal, for the commands of the first
version."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.tasks import Task
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.run import start as run
from diffaccel.search.records import Answer, CellResult, Search
from diffaccel.store.jsonio import RecordError, read_record, write_json

if TYPE_CHECKING:
    from diffaccel.experiment.plan import Experiment

CONFIG = Path("config.yaml")
"""The experiment, from the folder that a command is started in."""


@dataclass(frozen=True)
class Store:
    """What is there of an experiment's results.

    Args:
        raw: the configuration as it was read.
        files: that it was read from after `CONFIG`, as snakemake reads them.
    """

    raw: Mapping[str, Any]
    files: tuple[Path, ...] = ()

    @classmethod
    def read(cls, file: Path | None) -> Store:
        """The experiment of this folder, with a file on top.

        Raises:
            ConfigError: a file is missing or is not YAML.
        """
        from diffaccel.experiment.config import read_raw

        raw = read_raw(CONFIG)
        return cls(raw) if file is None else cls(_updated(raw, read_raw(file)), (file,))

    def changed(self, file: Path, changes: Mapping[str, Any]) -> Store:
        """The same with changes, which are written to a file for snakemake."""
        write_json(file, changes)
        return Store(_updated(self.raw, changes), (*self.files, file))

    @cached_property
    def experiment(self) -> Experiment:
        """Raises ConfigError where the configuration is wrong."""
        from diffaccel.experiment.config import load
        from diffaccel.experiment.plan import Experiment

        return Experiment(load(self.raw))

    @property
    def folder(self) -> Path:
        return Path(self.experiment.config.results) / self.experiment.platform

    def search(self, arguments: Sequence[str]) -> bool:
        """Has snakemake search what is missing or out of date; whether all of it went well. The
        stores are then what is known of everything that was ever searched here. A dry run ends
        here.

        Raises:
            InputError: the experiment has nothing to search.
        """
        from diffaccel.stages import database

        targets = [
            str(self._record(configuration))
            for configuration in self.experiment.configurations.values()
        ]
        if not targets:
            raise InputError("the experiment has no model with weights, so nothing to search")
        files = ["--configfile", *map(str, self.files)] if self.files else []
        well = run.make([*targets, *arguments, *files])
        if run.is_dry(arguments):
            sys.exit(0 if well else 1)
        database.write(self.folder)
        return well

    def _record(self, configuration: Configuration) -> Path:
        return self.folder / "search" / f"{configuration.slug}.json"

    def found(self, configuration: Configuration) -> Search | None:
        """What was searched of a configuration, if it was."""
        with contextlib.suppress(RecordError):
            return read_record(Search, self._record(configuration))
        return None

    @cached_property
    def records(self) -> dict[Configuration, Search]:
        """Of the configurations of the experiment, as far as they were searched."""
        configurations = self.experiment.configurations.values()
        return {
            configuration: found
            for configuration in configurations
            if (found := self.found(configuration)) is not None
        }

    @cached_property
    def cells(self) -> dict[Cell, CellResult]:
        """Of the cells of the experiment, as far as they were searched."""
        known = (cell for search in self.records.values() for cell in search.cells)
        wanted = set(self.experiment.cells.values())
        return {each.cell: each for each in known if each.cell in wanted}

    def answer(self, task: Task) -> Answer | None:
        """The answer to a task, if its configuration was searched for it."""
        search = self.records.get(task.cell.configuration) if task.cell else None
        return search.answer(task.id) if search else None

    @cached_property
    def failures(self) -> dict[Path, str]:
        """Logs of the jobs that failed, with what each says."""
        from diffaccel.report import table as report

        return dict(report.failures(self.folder))

    def failure(self, configuration: Configuration) -> str:
        """Why a configuration was not searched."""
        said = {path.stem: line for path, line in self.failures.items()}
        return (
            said.get(configuration.slug)
            or said.get(configuration.model)
            or "the jobs that failed say why"
        )


def _updated(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes on top of a configuration, section by section, as snakemake has it."""
    updated = dict(raw)
    for key, value in changes.items():
        old = raw.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        updated[key] = _updated(old or {}, value) if both else value
    return updated


def bound_of(known: CellResult) -> str:
    """The upper bound of a cell in words, or why there is none."""
    title = combination(known.cell.accelerators).title
    if known.bound is not None:
        return f"{title}: bound {measured(known.bound)}"
    return (
        f"{title}: no bound: {known.reason or f'no candidate has a loss below {known.loss_limit}'}"
    )


def measured(row: Measurement) -> str:
    """Speedup, loss and parameters of a candidate in words."""
    return f"{row.speedup:.2f}x, loss {row.loss:+.1%}, {in_words(row.parameters)}"


def why_not(answer: Answer) -> str:
    """Why a task was not met, and what comes nearest."""
    near = f"; nearest: {measured(answer.nearest)}" if answer.nearest else ""
    return f"{answer.status}: {answer.reason.splitlines()[0]}{near}"


def end(store: Store, well: bool, made: Sequence[Task]) -> NoReturn:
    """Ends the command. Says which tasks were not met, and why, and what failed.

    Args:
        well: whether all of the search went well; the exit status is 0 then, else 1.
    """
    unmet = [(task, _reason(store, task)) for task in made]
    listed = [f"  {task.id}: {reason}" for task, reason in unmet if reason]
    if listed:
        print(f"not met, {len(listed)} of {len(made)}:")
    if not well:
        listed += [f"failed: {line} (log: {path})" for path, line in store.failures.items()]
    for line in listed:
        print(line)
    sys.exit(0 if well else 1)


def _reason(store: Store, task: Task) -> str | None:
    """Why a task was not met, or None."""
    if task.problem is not None:
        return f"unparsed: {task.problem.splitlines()[0]}"
    answer = store.answer(task)
    if answer is None and task.cell is not None:
        return f"not searched: {store.failure(task.cell.configuration)}"
    return None if answer is None or answer.status == "met" else why_not(answer)
