"""The commands of the first version: the same work on the same store as the rules.

What is missing is searched by snakemake, as with ``diffaccel run``; what there is then is gathered
here and not by the rules, which wait until everything is there: one configuration that fails does
not hold up the others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffaccel.cli.searched import Store, bound_of, end, measured, why_not
from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline
from diffaccel.experiment import tasks
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.tasks import Task
from diffaccel.experiment.tasks.request import problem
from diffaccel.plugins.accelerators import combination
from diffaccel.search.records import Answer, Search
from diffaccel.store.jsonio import read_record, write_output


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


# ---- one cell ----------------------------------------------------------------------------------


def traversal_search(args: argparse.Namespace) -> None:
    """Searches one cell beside what is known of its configuration already."""
    own = Store.read(args.configfile)
    names = tasks.accelerators_named(args.search_targets.replace("+", ","))
    _check(accelerators=names, speedup=args.req_speedup, max_loss=args.req_score_loss)
    configuration = Configuration(
        tasks.model_named(args.pipe, own.experiment.specs),
        name := tasks.scheduler_named(args.sched, own.experiment.own_schedulers),
        args.steps,
        own.experiment.own_schedulers.get(name),
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
        end(wanted, well, [])
    print(f"{configuration.title}, {_outcome(cell, args, found)}")


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
    own_scheduler = configuration.own_scheduler
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
        "schedulers": [own_scheduler.entry if own_scheduler else configuration.scheduler],
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
        own_scheduler=configuration.own_scheduler,
    )
    return tasks.sentence(request)


def _outcome(cell: Cell, args: argparse.Namespace, found: Search) -> str:
    known = next(each for each in found.cells if each.cell == cell)
    if args.req_speedup is None:
        return bound_of(known)
    limit = args.req_score_loss or known.loss_limit
    asked = _sentence(cell, args.req_speedup, limit)
    answer = next(each for each in found.answers if each.task.sentence == asked)
    title = combination(cell.accelerators).title
    if answer.chosen is not None:
        return f"{title}, for {args.req_speedup}x: {measured(answer.chosen)}"
    return f"{title}, for {args.req_speedup}x: {why_not(answer)}"


# ---- the experiment ----------------------------------------------------------------------------


def explore_upper_bounds(args: argparse.Namespace) -> None:
    """Searches the experiment's cells and stores their bounds."""
    store, well = _searched(args)
    for cell in store.experiment.cells.values():
        known = store.cells.get(cell)
        lacking = f"{combination(cell.accelerators).title}: not searched: "
        print(
            cell.configuration.slug,
            bound_of(known) if known else lacking + store.failure(cell.configuration),
        )
    print(f"the bounds are in {store.folder / 'speedup_bounds.json'}")
    end(store, well, [])


def generate_tasks(args: argparse.Namespace) -> None:
    """Makes the tasks of all cells that were searched."""
    store, well = _searched(args)
    made = _write_tasks(store)
    print(f"{made} tasks are in {store.folder / 'tasks' / 'tasks.json'}")
    end(store, well, store.experiment.listed)


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
    end(store, well, store.experiment.listed)


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
