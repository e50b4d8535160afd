"""The stages of the workflow as its rules call them: `diffaccel baseline`, `search` and so on."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.options import MeasureOptions, SearchOptions
from diffaccel.experiment.tasks.task import Task
from diffaccel.machine import jobs
from diffaccel.plugins.models._spec import ModelSpec
from diffaccel.search.records import Search
from diffaccel.store.journal import writing
from diffaccel.store.jsonio import parse, read_record, write_output, write_record

OFFLINE = ("baseline", "search", "verify", "verdicts")
"""What measures with a model: all is fetched by then."""
GUARDED = ("search", "verify", "speed")
"""What may crash or hang, and is run in a process that is watched."""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text[:80]!r}") from None


def _model(args: argparse.Namespace) -> None:
    from diffaccel.plugins.metrics import fetch_metrics
    from diffaccel.plugins.models import FAMILIES

    spec = parse(ModelSpec, args.job["spec"], "spec")
    family = FAMILIES[spec.family]
    metrics = fetch_metrics(spec.metrics)  # before anything larger
    fetched = replace(family.fetch(spec).spec, metrics=metrics)
    write_record(args.out, fetched, args.job)


def _baseline(args: argparse.Namespace) -> None:
    from diffaccel.stages import baseline

    baseline.run(
        parse(Configuration, args.job["configuration"], "configuration"),
        read_record(ModelSpec, args.model),
        parse(MeasureOptions, args.job["options"], "options"),
        args.job["platform"],
        args.out,
        args.images,
        args.kept,
        args.job,
    )


def _search(args: argparse.Namespace) -> None:
    from diffaccel.search.fewer_steps import decide_with_fewer_steps
    from diffaccel.search.found import keep
    from diffaccel.search.measuring import opened

    job, baseline = args.job, read_record(Baseline, args.baseline)
    cells = [parse(Cell, cell, "cell") for cell in job["cells"]]
    fewer_steps = (
        None if job["fewer_steps"] is None else parse(Cell, job["fewer_steps"], "fewer_steps")
    )
    options = parse(SearchOptions, job["search"], "search")
    asked = [parse(Task, task, "task") for task in job["tasks"]]
    every = cells if fewer_steps is None else [*cells, fewer_steps]
    aside = None if fewer_steps in cells else fewer_steps
    more = [limit for task in asked for limit in task.limits or ()]
    with (
        writing(args.journals / baseline.configuration.slug),
        opened(every, baseline, args.images, args.journals, options, args.watch, aside, more) as (
            searches,
            measurer,
        ),
    ):
        jobs.note(most={each.cell.slug: each.most for each in searches})
        found = decide_with_fewer_steps(
            fewer_steps, cells, searches, measurer, asked, job["targets"], job["loss_limit"]
        )
    keep(args.journals, found, baseline)
    write_record(args.out, found, job)


def _code(args: argparse.Namespace) -> None:
    from diffaccel.recipes import scripts as code

    answer = read_record(Search, args.found).answer(args.task)
    if answer is None:
        raise InputError(f"{args.found} has no answer to a task {args.task!r}")
    write_output(args.out, code.script(answer, read_record(Baseline, args.baseline)))


def _verify(args: argparse.Namespace) -> None:
    from diffaccel.evaluation.budget import Budget
    from diffaccel.stages import verify

    job = args.job
    with writing(args.journal):
        verification = verify.run(
            read_record(Search, args.found),
            read_record(Baseline, args.baseline),
            args.images,
            args.scripts,
            args.journal,
            job["max_pairs"],
            job["heldout"],
            args.watch,
            Budget(job["budget"]),
            verify.Serving(job.get("batch_sizes", []), job.get("calls", 0)),
        )
    write_record(args.out, verification, job)


def _speed(args: argparse.Namespace) -> None:
    from diffaccel.stages import speed

    with writing(args.journal):
        record = speed.run(
            parse(Configuration, args.job["configuration"], "configuration"),
            parse(ModelSpec, args.job["spec"], "spec"),
            parse(MeasureOptions, args.job["options"], "options"),
            parse(speed.Order, args.job["order"], "order"),
            args.job["platform"],
            args.journal,
            args.watch,
        )
    write_record(args.out, record, args.job)


def _verdicts(args: argparse.Namespace) -> None:
    from diffaccel.benchmark.judge import judging
    from diffaccel.benchmark.judge.judge_configuration import JudgeConfiguration
    from diffaccel.experiment.asked import Asked
    from diffaccel.experiment.options import JudgeOptions

    job = args.job
    configuration = JudgeConfiguration(
        parse(Configuration, job["configuration"], "configuration"),
        read_record(ModelSpec, args.model),
        parse(MeasureOptions, job["measure"], "measure"),
        parse(JudgeOptions, job["options"], "options"),
        job["loss_limit"],
        job["platform"],
    )
    asked = [parse(Asked, each, "asked") for each in job["asked"]]
    found = judging.run(configuration, asked, Path(job["scripts"]), args.journal)
    write_record(args.out, found, job)


def add_stages(commands: Any) -> None:
    """What the rules call."""
    inputs: dict[str, dict[str, Any]] = {
        "--job": {"type": _json, "help": "what to do, as JSON"},
        "--model": {"type": Path, "help": "record of the model, its weights fetched"},
        "--baseline": {"type": Path, "help": "record of the baseline"},
        "--images": {"type": Path, "help": "folder of the baseline's images"},
        "--kept": {"type": Path, "help": "folder of baselines that were measured before"},
        "--found": {"type": Path, "help": "record of the search"},
        "--task": {"help": "id of the task"},
        "--scripts": {"type": Path, "nargs": "*", "help": "the generated scripts"},
        "--journal": {"type": Path, "help": "the journal; it is appended to"},
        "--journals": {"type": Path, "help": "folder of the cells' journals; they are appended to"},
    }
    stages = {
        "model": (_model, ("--job",), "check a model and fetch it where it is on a hub"),
        "baseline": (
            _baseline,
            ("--job", "--model", "--images", "--kept"),
            "measure the baseline pipeline",
        ),
        "search": (
            _search,
            ("--job", "--baseline", "--images", "--journals"),
            "decide the bound and the tasks of every cell of a configuration",
        ),
        "code": (_code, ("--found", "--task", "--baseline"), "render the script of a task"),
        "verify": (
            _verify,
            (*("--job", "--found", "--baseline", "--images", "--scripts", "--journal"),),
            "run scripts and measure them again",
        ),
        "speed": (_speed, ("--job", "--journal"), "time an untrained model, without scores"),
        "verdicts": (
            _verdicts,
            ("--job", "--model", "--journal"),
            "judge the scripts of a configuration",
        ),
    }
    for name, (function, required, text) in stages.items():
        command = commands.add_parser(name, help=text, description=text)
        for flag in required:
            command.add_argument(flag, **{"required": True, **inputs[flag]})
        command.add_argument("--out", type=Path, required=True, help="the file to write")
        command.add_argument("--log", type=Path, help="file that gets what is logged")
        command.set_defaults(function=function)
