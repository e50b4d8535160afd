"""The commands of the first version: the same work on the same store as the rules.

What is missing is searched by snakemake, as with ``diffaccel run``; what there is then is gathered
here and not by the rules, which wait until everything is there: one configuration that fails does
not hold up the others.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.experiment import tasks
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.tasks import Task
from diffaccel.experiment.tasks.request import problem
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.run import start as run
from diffaccel.search.records import Answer, CellResult, Search
from diffaccel.store.jsonio import RecordError, read_record, write_json, write_output

if TYPE_CHECKING:
    from diffaccel.experiment.plan import Experiment

log = logging.getLogger(__name__)

CONFIG = Path("config.yaml")
"""The experiment, from the folder that a command is started in."""


def add_parsers(commands: Any) -> None:
    """Adds the commands to those of ``diffaccel``."""
    rest = "What else is given goes to snakemake, e.g. --cores 4"
    added = {}
    for function, text in (
        (
            traversal_search,
            "search one accelerator or combination on one configuration, and say the result",
        ),
        (explore_upper_bounds, "search what the experiment lacks, and store all upper bounds"),
        (generate_tasks, "the same, and make tasks from the bounds"),
        (auto_code_gen, "the same, and render the script of every task that can be met"),
    ):
        name = function.__name__
        # Not abbreviated: --config is snakemake's, and not short for --configfile.
        added[name] = commands.add_parser(
            name, help=text, description=f"{text}. {rest}", allow_abbrev=False
        )
        added[name].add_argument("--configfile", type=Path, help="on top of config.yaml")
        added[name].set_defaults(function=function, log=None, passes_on=True)
    added["auto_code_gen"].add_argument(
        "--tasks_file", type=Path, help="sentences, one a line, in place of the experiment's own"
    )
    flag = added["traversal_search"].add_argument
    flag("--search_targets", required=True, help="short names; with commas: put on together")
    flag("--pipe", required=True, help="the model, e.g. SD1.5")
    flag("--sched", required=True, help="the scheduler, e.g. DDIM")
    flag("--steps", type=int, required=True)
    flag("--req_speedup", type=float, help="without it, the upper bound is searched")
    flag("--req_score_loss", type=float, help="the loss is to be below; default: loss_limit")
    flag("--num_samples", type=int, help="prompts; default: measure.prompts")
    flag("--batch_size", type=int, help="prompts per call; default: the model's")


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


# ---- one cell ----------------------------------------------------------------------------------


def traversal_search(args: argparse.Namespace) -> None:
    """Searches one cell beside what is known of its configuration already."""
    own = Store.read(args.configfile)
    names = tasks.accelerators_named(args.search_targets.replace("+", ","))
    _check(accelerators=names, speedup=args.req_speedup, max_loss=args.req_score_loss)
    configuration = Configuration(
        tasks.model_named(args.pipe, own.experiment.specs),
        tasks.scheduler_named(args.sched),
        args.steps,
    )
    cell = Cell(configuration, names)
    if own.experiment.specs[configuration.model].untrained:
        raise InputError(
            f"{configuration.model} is untrained here: without a score there is no loss"
        )
    with tempfile.TemporaryDirectory() as scratch:
        wanted = _wanted(own, cell, args, Path(scratch))
        well = wanted.search(args.arguments)
    found = wanted.found(configuration)
    if not well or found is None:
        _end(wanted, well, [])
    print(
        f"{configuration.model}, {configuration.scheduler}, {configuration.steps} steps, "
        f"{_outcome(cell, args, found)}"
    )


def _check(**given: Any) -> None:
    """Raises InputError where a value is out of the bounds that it has in tasks."""
    for name, value in given.items():
        if value is not None and (wrong := problem(name, value)):
            raise InputError(wrong)


def _wanted(own: Store, cell: Cell, args: argparse.Namespace, scratch: Path) -> Store:
    """An experiment of the cell's configuration alone: the cell, and what its record answers
    already."""
    configuration, config = cell.configuration, own.experiment.config
    there = own.found(configuration)
    cells = [known.cell for known in there.cells] if there else []
    answered = [answer.task for answer in there.answers] if there else []
    limit = there.cells[0].loss_limit if there else config.loss_limit
    sentences = [task.sentence for task in answered if task.origin == "user" and task.sentence]
    if args.req_speedup is None:
        limit = args.req_score_loss or limit
    else:
        sentences.append(_sentence(cell, args.req_speedup, args.req_score_loss or limit))
    (scratch / "tasks.txt").write_text("\n".join(dict.fromkeys(sentences)), encoding="utf-8")
    models = {_name(each): each for each in own.raw.get("models") or []}
    model = models.get(configuration.model)
    entry = {"name": configuration.model, **(model if isinstance(model, Mapping) else {})}
    changes: dict[str, Any] = {
        "models": [entry | ({"batch_size": args.batch_size} if args.batch_size else {})],
        "schedulers": [configuration.scheduler],
        "steps": [configuration.steps],
        "accelerators": list(
            dict.fromkeys(combination(each.accelerators).title for each in (*cells, cell))
        ),
        "speedups": sorted({task.required for task in answered if task.origin == "target"}),
        "loss_limit": limit,
        "tasks_file": str(scratch / "tasks.txt"),
        "measure": {"prompts": args.num_samples} if args.num_samples else {},
    }
    return own.changed(scratch / "config.json", changes)


def _name(entry: Any) -> Any:
    return entry.get("name") if isinstance(entry, Mapping) else entry


def _sentence(cell: Cell, speedup: float, max_loss: float) -> str:
    configuration, names = cell.configuration, cell.accelerators
    request = tasks.Request(
        configuration.model,
        configuration.scheduler,
        configuration.steps,
        names,
        speedup,
        max_loss=max_loss,
    )
    return tasks.sentence(request)


def _outcome(cell: Cell, args: argparse.Namespace, found: Search) -> str:
    known = next(each for each in found.cells if each.cell == cell)
    if args.req_speedup is None:
        return _bound(known)
    limit = args.req_score_loss or known.loss_limit
    asked = _sentence(cell, args.req_speedup, limit)
    answer = next(each for each in found.answers if each.task.sentence == asked)
    title = combination(cell.accelerators).title
    if answer.chosen is not None:
        return f"{title}, for {args.req_speedup}x: {_measured(answer.chosen)}"
    return f"{title}, for {args.req_speedup}x: {_why(answer)}"


def _bound(known: CellResult) -> str:
    title = combination(known.cell.accelerators).title
    if known.bound is not None:
        return f"{title}: bound {_measured(known.bound)}"
    return (
        f"{title}: no bound: {known.reason or f'no parameters has a loss below {known.loss_limit}'}"
    )


def _measured(row: Measurement) -> str:
    return f"{row.speedup:.2f}x, loss {row.loss:+.1%}, {in_words(row.parameters)}"


def _why(answer: Answer) -> str:
    near = f"; nearest: {_measured(answer.nearest)}" if answer.nearest else ""
    return f"{answer.status}: {answer.reason.splitlines()[0]}{near}"


# ---- the experiment ----------------------------------------------------------------------------


def explore_upper_bounds(args: argparse.Namespace) -> None:
    """Searches the experiment's cells and stores their bounds."""
    store, well = _searched(args)
    for cell in store.experiment.cells.values():
        known = store.cells.get(cell)
        lacking = f"{combination(cell.accelerators).title}: not searched: "
        print(
            cell.configuration.slug,
            _bound(known) if known else lacking + store.failure(cell.configuration),
        )
    print(f"the bounds are in {store.folder / 'speedup_bounds.json'}")
    _end(store, well, [])


def generate_tasks(args: argparse.Namespace) -> None:
    """Makes the tasks of all cells that were searched."""
    store, well = _searched(args)
    made = _write_tasks(store)
    print(f"{made} tasks are in {store.folder / 'tasks' / 'tasks.json'}")
    _end(store, well, store.experiment.listed)


def auto_code_gen(args: argparse.Namespace) -> None:
    """Renders the scripts of all tasks that were met."""
    from diffaccel.stages import collect

    store, well = _searched(args)
    _write_tasks(store)
    met = [answer for task in store.experiment.tasks.values() if (answer := _met(store, task))]
    for answer in met:
        _write_script(store, answer)
    if well:
        collect.keep_scripts(store.folder)
    print(f"{len(met)} scripts are in {store.folder / 'code'}")
    _end(store, well, store.experiment.listed)


def _searched(args: argparse.Namespace) -> tuple[Store, bool]:
    store = Store.read(args.configfile)
    with tempfile.TemporaryDirectory() as scratch:
        if getattr(args, "tasks_file", None) is not None:
            changes = {"tasks_file": str(args.tasks_file)}
            store = store.changed(Path(scratch) / "config.json", changes)
        return store, store.search(args.arguments)


def _met(store: Store, task: Task) -> Answer | None:
    answer = store.answer(task)
    return answer if answer and answer.status == "met" else None


def _write_tasks(store: Store) -> int:
    """The tasks of the cells that are known, and those that name none; how many there are."""
    from diffaccel.stages import collect

    path = store.folder / "tasks" / "tasks.json"
    return collect.tasks(store.experiment.listed, store.records.values(), path)


def _write_script(store: Store, answer: Answer) -> None:
    from diffaccel.recipes import scripts as code

    assert answer.task.cell is not None
    name = f"{answer.task.cell.configuration.slug}.json"
    source = code.script(answer, read_record(Baseline, store.folder / "baseline" / name))
    path = store.folder / "code" / f"{answer.task.id}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != source:
        write_output(path, source)


def _end(store: Store, well: bool, made: Sequence[Task]) -> NoReturn:
    """Says which tasks were not met, and why, and what failed."""
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
    return None if answer is None or answer.status == "met" else _why(answer)
