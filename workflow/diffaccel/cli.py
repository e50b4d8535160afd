"""The command line: what users call, and the stages as Snakemake's rules call them."""

from __future__ import annotations

import argparse
import errno
import functools
import json
import logging
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from diffaccel import __version__, devices, jobs
from diffaccel import commands as first_version
from diffaccel.errors import InputError
from diffaccel.grid import Cell
from diffaccel.journal import writing
from diffaccel.jsonio import (
    dumps,
    parse,
    read_record,
    to_json,
    write_output,
    write_record,
    write_text,
)
from diffaccel.records import (
    GIB,
    Baseline,
    MeasureOptions,
    ModelSpec,
    Search,
    SearchOptions,
    Setup,
    Task,
)
from diffaccel.registry import suggest
from diffaccel.watch import Watch, watched

log = logging.getLogger(__package__)

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text[:80]!r}") from None


def _model(args: argparse.Namespace) -> None:
    from diffaccel.models import FAMILIES

    spec = parse(ModelSpec, args.job["spec"], "spec")
    write_record(args.out, FAMILIES[spec.family].fetch(spec).spec, args.job)


def _baseline(args: argparse.Namespace) -> None:
    from diffaccel.stages import baseline

    baseline.run(
        parse(Setup, args.job["setup"], "setup"),
        read_record(ModelSpec, args.model),
        parse(MeasureOptions, args.job["options"], "options"),
        args.job["platform"],
        args.out,
        args.images,
        args.kept,
        args.job,
    )


def _search(args: argparse.Namespace) -> None:
    from diffaccel.stages import database, search
    from diffaccel.stages.rival import decide_beside

    job, baseline = args.job, read_record(Baseline, args.baseline)
    cells = [parse(Cell, cell, "cell") for cell in job["cells"]]
    rival = None if job["rival"] is None else parse(Cell, job["rival"], "rival")
    options = parse(SearchOptions, job["search"], "search")
    asked = [parse(Task, task, "task") for task in job["tasks"]]
    every = cells if rival is None else [*cells, rival]
    aside = None if rival in cells else rival
    with (
        writing(args.journals / baseline.setup.slug),
        search.opened(every, baseline, args.images, args.journals, options, args.watch, aside) as (
            opened,
            measure,
        ),
    ):
        jobs.note(most={each.cell.slug: each.most for each in opened})
        found = decide_beside(
            rival, cells, opened, measure, asked, job["targets"], job["loss_limit"]
        )
    database.keep(args.journals, found, baseline)
    write_record(args.out, found, job)


def _code(args: argparse.Namespace) -> None:
    from diffaccel.stages import code

    answer = read_record(Search, args.found).answer(args.task)
    if answer is None:
        raise InputError(f"{args.found} has no answer to a task {args.task!r}")
    write_output(args.out, code.script(answer, read_record(Baseline, args.baseline)))


def _verify(args: argparse.Namespace) -> None:
    from diffaccel.budget import Budget
    from diffaccel.stages import verify

    job = args.job
    with writing(args.journal):
        proof = verify.run(
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
    write_record(args.out, proof, job)


def _speed(args: argparse.Namespace) -> None:
    from diffaccel.stages import speed

    with writing(args.journal):
        record = speed.run(
            parse(Setup, args.job["setup"], "setup"),
            parse(ModelSpec, args.job["spec"], "spec"),
            parse(MeasureOptions, args.job["options"], "options"),
            parse(speed.Order, args.job["order"], "order"),
            args.job["platform"],
            args.journal,
            args.watch,
        )
    write_record(args.out, record, args.job)


def _verdicts(args: argparse.Namespace) -> None:
    from diffaccel.judge import judging
    from diffaccel.judge.records import Asked, JudgeOptions

    job = args.job
    case = judging.Case(
        parse(Setup, job["setup"], "setup"),
        read_record(ModelSpec, args.model),
        parse(MeasureOptions, job["measure"], "measure"),
        parse(JudgeOptions, job["options"], "options"),
        job["loss_limit"],
        job["platform"],
    )
    asked = [parse(Asked, each, "asked") for each in job["asked"]]
    found = judging.run(case, asked, Path(job["scripts"]), args.journal)
    write_record(args.out, found, job)


def _judge(args: argparse.Namespace) -> None:
    from diffaccel import config, plan, run
    from diffaccel.judge import sandbox, table

    judge: dict[str, Any] = {"scripts": str(args.folder), "prompts": str(args.prompts)}
    if args.unsandboxed:
        judge["sandbox"] = False
    raw = config.read_raw(Path("config.yaml"))
    experiment = plan.Experiment(
        config.load({**raw, "judge": {**(raw.get("judge") or {}), **judge}})
    )
    sandbox.how(experiment.config.judge.sandbox)
    given = experiment.given
    log.info("%d scripts to judge", sum(map(len, given.setups.values())))
    for each in given.unparsed:
        why = each.reason.splitlines()[0]
        log.warning("%s: its prompt is not understood: %s", each.id, why)
    if not run.make(["judge", "--config", f"judge={json.dumps(judge)}", *args.arguments]):
        raise SystemExit(1)
    print(table.as_text(Path(experiment.config.results) / experiment.platform / "judge"))


def _run(args: argparse.Namespace) -> None:
    from diffaccel.run import run

    own = args.arguments
    status = run(own[1:] if own[:1] == ["--"] else own)
    if status is None:
        log.info("Nothing to be done: all results are there and up to date.")
    else:
        sys.exit(status)


def _status(args: argparse.Namespace) -> None:
    from diffaccel import progress, view

    reader = progress.Reader(progress.find(args.results))
    if args.json:
        print(dumps(to_json(reader.read())), end="")
    else:
        view.status(reader, args.follow)


def _picture(args: argparse.Namespace) -> None:
    from diffaccel import picture

    picture.draw(_results(args), args.ids, args.columns, args.out)


def _show(args: argparse.Namespace) -> None:
    from diffaccel.report import show_summary

    show_summary(_results(args))


def _report(args: argparse.Namespace) -> None:
    from diffaccel import page

    if len(args.compared) > 2:
        raise InputError(f"one folder of results, or two to compare; got {len(args.compared)}")
    if len(args.compared) == 2:
        first, second = args.compared
        log.info("wrote %s", page.write_compared(first, second, args.out))
        return
    args.results = next(iter(args.compared), None)
    log.info("wrote %s", page.write(_results(args), args.out, args.parts))


def _recommend(args: argparse.Namespace) -> None:
    from diffaccel import recommend, tasks

    found = recommend.recommend(
        args.results,
        recommend.setup_named(args.results, args.model, args.scheduler, args.steps),
        args.speedup,
        args.max_loss,
        [tasks.accelerators_named(each) for each in args.accelerators],
        args.platform,
        recommend.Limits(
            args.max_latency, None if args.max_memory is None else args.max_memory * GIB
        ),
    )
    if args.json:
        print(dumps(to_json(found)), end="")
    else:
        print("\n".join(recommend.lines(found)))
    if args.out is not None and found.status == "met":
        if args.out.suffix == ".py":
            write_output(args.out, recommend.script(args.results, found))
        else:
            write_record(args.out, found.recipes[0])
        log.info("wrote the first of them to %s", args.out)
    sys.exit(recommend.EXITS[found.status])


def _prompts(args: argparse.Namespace) -> None:
    from diffaccel import config, plan, prompt_files
    from diffaccel.tasks import Category

    experiment = plan.Experiment(config.read(args.config))
    folder = args.out or Path(experiment.config.results) / "benchmark"
    log.info("%s", prompt_files.write(folder, experiment, [Category(n) for n in args.category]))


def _selftest(args: argparse.Namespace) -> None:
    from diffaccel import config, plan, selftest

    experiment = plan.Experiment(config.read(args.config))
    setups = experiment.setups | experiment.speeds
    setup = setups.get(args.setup or next(iter(setups)))
    if setup is None:
        raise InputError(f"no setup {args.setup!r}: {suggest(args.setup, setups)}")
    found = selftest.run(setup, experiment.spec(setup), experiment.options, args.readings)
    print("\n".join(found.lines()))
    sys.exit(0 if found.ok else 1)


def _store_list(args: argparse.Namespace) -> None:
    from diffaccel import stores

    rows = stores.overview(args.results)
    if args.json:
        print(dumps(rows), end="")
        return
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        print("  ".join(str(row[name]).ljust(width) for name, width in widths.items()).rstrip())


def _store_check(args: argparse.Namespace) -> None:
    from diffaccel import stores

    if found := stores.problems(args.results):
        print("\n".join(found))
        sys.exit(1)
    log.info("%s: all is as it was written", args.results)


def _store_merge(args: argparse.Namespace) -> None:
    from diffaccel import merging

    conflicts = 0
    for source in args.sources:
        done = merging.merge(source, args.into)
        for path, count in done.rows.items():
            print(f"{count} rows into {path}")
        for path in done.records:
            print(f"copied {path}")
        for line in done.unread:
            print(f"left out: {line}")
        for line in done.conflicts:
            print(f"conflict, what was there is kept: {line}")
        conflicts += len(done.conflicts)
    sys.exit(1 if conflicts else 0)


def _store_export(args: argparse.Namespace) -> None:
    from diffaccel import stores

    rows = [
        stores.flat(row)
        for folder in stores.platforms(args.results)
        for row in stores.Store(folder).rows(args.kind)
    ]
    if args.out.suffix == ".jsonl":
        write_text(args.out, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        import pandas as pd

        write_text(args.out, pd.DataFrame(rows).to_csv(index=False))
    log.info("%d rows in %s", len(rows), args.out)


def _results(args: argparse.Namespace) -> Path:
    """A platform's folder of results.

    Raises:
        InputError: there is no such folder.
    """
    folder = args.results or Path("results") / devices.platform()
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder} in {Path.cwd()}: change to the folder that has your "
            "results, or name them, e.g. results/cpu; `diffaccel run` makes them"
        )
    return folder


GROUPS = {
    "daily": ("run", "status", "show", "report", "recommend"),
    "results": ("store", "picture", "selftest"),
    "benchmark and judge": ("prompts", "judge"),
    "older commands, kept for compatibility": (
        *("traversal_search", "explore_upper_bounds", "generate_tasks", "auto_code_gen"),
    ),
}
"""The commands that people call; the others are for the workflow's rules."""


class _Grouped(argparse.ArgumentParser):
    """Its help has the commands by groups, each with a line; its errors are one."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message):
            every = [name for names in GROUPS.values() for name in names]
            message = f"there is no command {unknown[1]!r}; {suggest(unknown[1], every)}"
        self.exit(2, f"diffaccel: {message}. `diffaccel --help` says more\n")

    def format_help(self) -> str:
        (commands,) = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        texts = {each.dest: each.help or "" for each in commands._choices_actions}
        width = max(map(len, texts)) + 2
        found = [self.format_usage(), f"{textwrap.fill(self.description or '', 100)}\n"]
        for group, names in GROUPS.items():
            found.append(f"{group}:")
            found += [
                textwrap.fill(
                    f"{name.ljust(width)}{texts[name]}",
                    100,
                    initial_indent="  ",
                    subsequent_indent=" " * (width + 2),
                )
                for name in names
            ]
            found.append("")
        found.append("`diffaccel COMMAND --help` has the flags of each.\n")
        return "\n".join(found)


def _parser() -> argparse.ArgumentParser:
    parser = _Grouped(
        prog="diffaccel",
        description="Makes diffusion pipelines faster within a limit of the loss of CLIP score, "
        "and measures every script again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"diffaccel {__version__}")
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="command", parser_class=argparse.ArgumentParser
    )
    for add in (
        _add_show,
        _add_report,
        _add_store,
        _add_recommend,
        first_version.add_parsers,
        _add_run,
        _add_status,
        _add_prompts,
        _add_judge,
        _add_selftest,
        _add_picture,
        _add_stages,
    ):
        add(commands)
    return parser


def _add_show(commands: Any) -> None:
    command = commands.add_parser("show", help="print the table of what is there")
    command.add_argument("results", nargs="?", type=Path, help="default: this platform's")
    command.set_defaults(function=_show, log=None)


def _add_report(commands: Any) -> None:
    text = "write the HTML report of a run; with two folders, compare them"
    command = commands.add_parser("report", help=text, description=text)
    command.add_argument(
        "compared",
        nargs="*",
        type=Path,
        metavar="results",
        help="default: this platform's; two: they are compared",
    )
    command.add_argument(
        "--out",
        type=Path,
        help="default: report.html in the results; of two, compared.html in the first",
    )
    command.add_argument("--parts", action="store_true", help="also charts and tables, each a file")
    command.add_argument("--log", type=Path, help="file that gets what is logged")
    command.set_defaults(function=_report)


def _add_recommend(commands: Any) -> None:
    text = (
        "the measured setting with the least loss at a speedup, or the fastest. Exit status: 0 "
        "found; 3 nothing meets the request, the nearest is printed; 4 nothing was measured"
    )
    command = commands.add_parser("recommend", help=text.split(".")[0], description=text)
    command.add_argument("--model", required=True, help="e.g. SD1.5")
    command.add_argument("--scheduler", required=True, help="e.g. DDIM")
    command.add_argument("--steps", type=int, required=True, help="of the sampler, e.g. 50")
    command.add_argument("--speedup", type=float, help="at least; default: the fastest")
    command.add_argument(
        "--max-loss", type=float, help="0.02 is 2 percent; default: the limit of the run"
    )
    command.add_argument(
        "--max-latency",
        type=float,
        metavar="S",
        help="median seconds of a call (all images of the batch) at most; without --speedup, the "
        "setting with the least loss that keeps it",
    )
    command.add_argument(
        "--max-memory",
        type=float,
        metavar="GIB",
        help="peak that PyTorch allocates at the measured batch size, at most (on a CPU: of the "
        "process); leave a GPU about 1 GiB for CUDA",
    )
    command.add_argument(
        "--accelerators", nargs="+", default=[], help='these alone, e.g. ToMe "DeepCache, ToMe"'
    )
    command.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    command.add_argument("--platform", help="default: the only one there, or this machine's")
    command.add_argument("--json", action="store_true", help="print everything as JSON")
    command.add_argument(
        "--out", type=Path, help="write the best: as a script (.py), else as a recipe (JSON)"
    )
    command.set_defaults(function=_recommend, log=None)


def _add_run(commands: Any) -> None:
    text = "run the workflow; a run that was stopped or killed just goes on"
    more = (
        f"{text}. All that is given goes to snakemake, also after `--`: -n shows what would be "
        "done, --cores 4 limits it, --configfile FILE and --config key=value change the experiment"
    )
    command = commands.add_parser("run", help=text, description=more)
    command.set_defaults(function=_run, log=None, passes_on=True)


def _add_status(commands: Any) -> None:
    text = (
        "how far a run is, be it of another terminal or of another machine that shares the results"
    )
    command = commands.add_parser("status", help=text, description=text)
    command.add_argument(
        "results", nargs="?", type=Path, default=Path("results"), help="default: results"
    )
    # Not args.watch, which every command has.
    command.add_argument("--watch", dest="follow", action="store_true", help="until it ends")
    command.add_argument("--json", action="store_true", help="print everything as JSON")
    command.set_defaults(function=_status, log=None)


def _add_prompts(commands: Any) -> None:
    text = "make the benchmark's prompts: five categories of tasks in words, ready to be answered"
    command = commands.add_parser("prompts", help=text, description=text)
    command.add_argument("--out", type=Path, help="the folder to write; default: results/benchmark")
    command.add_argument(
        *("--category", "-c"),
        type=int,
        nargs="+",
        choices=range(1, 6),
        default=[],
        metavar="N",
        help="the files of these alone, 1 to 5",
    )
    command.add_argument(
        "--config",
        type=Path,
        default=Path("config.yaml"),
        help="experiment whose measured latencies category 5 is made from",
    )
    command.set_defaults(function=_prompts, log=None)


def _add_judge(commands: Any) -> None:
    text = "judge scripts that were written for the benchmark's prompts; they run in a sandbox"
    command = commands.add_parser("judge", help=text, description=text)
    command.add_argument("folder", type=Path, help="of a script <prompt_id>.py for each prompt")
    command.add_argument(
        "--prompts",
        type=Path,
        default=Path("results/benchmark/prompts.jsonl"),
        help="file of the tasks; default: results/benchmark/prompts.jsonl",
    )
    command.add_argument(
        "--unsandboxed", action="store_true", help="with your rights: for code that you trust"
    )
    command.set_defaults(function=_judge, log=None, passes_on=True)


def _add_selftest(commands: Any) -> None:
    text = "time the plain pipeline beside itself, which should read 1.00; else, exit status 1"
    command = commands.add_parser("selftest", help=text, description=text)
    command.add_argument("setup", nargs="?", help="e.g. SD1.5_DDIM_50; default: the first there is")
    command.add_argument("--config", type=Path, default=Path("config.yaml"), help="the experiment")
    command.add_argument("--readings", type=int, default=5, choices=range(1, 101), metavar="N")
    command.set_defaults(function=_selftest, log=None)


def _add_picture(commands: Any) -> None:
    command = commands.add_parser("picture", help="baseline images above those of scripts, as PNG")
    command.add_argument("ids", nargs="+", help="tasks that were met, of one setup")
    command.add_argument("--results", type=Path, help="default: this platform's")
    command.add_argument("--columns", type=int, default=6, help="how many prompts")
    command.add_argument("--out", type=Path, required=True, help="the PNG to write")
    command.set_defaults(function=_picture, log=None)


def _add_stages(commands: Any) -> None:
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
            "measure the plain pipeline",
        ),
        "search": (
            _search,
            ("--job", "--baseline", "--images", "--journals"),
            "decide the bound and the tasks of every cell of a setup",
        ),
        "code": (_code, ("--found", "--task", "--baseline"), "render the script of a task"),
        "verify": (
            _verify,
            (*("--job", "--found", "--baseline", "--images", "--scripts", "--journal"),),
            "run scripts and measure them again",
        ),
        "speed": (_speed, ("--job", "--journal"), "time an untrained model, without scores"),
        "verdicts": (_verdicts, ("--job", "--model", "--journal"), "judge the scripts of a setup"),
    }
    for name, (function, required, text) in stages.items():
        command = commands.add_parser(name, help=text, description=text)
        for flag in required:
            command.add_argument(flag, **{"required": True, **inputs[flag]})
        command.add_argument("--out", type=Path, required=True, help="the file to write")
        command.add_argument("--log", type=Path, help="file that gets what is logged")
        command.set_defaults(function=function)


def _add_store(commands: Any) -> None:
    text = "what was measured, across versions and machines"
    actions = commands.add_parser("store", help=text, description=text).add_subparsers(
        required=True, metavar="ACTION"
    )
    described = {
        "list": (_store_list, "what is there, by platform and setup"),
        "check": (_store_check, "say what is not as it was written; exit status 1 if anything"),
        "merge": (
            _store_merge,
            "add the results of other machines. What is there stays: what contradicts it is said, "
            "and left out; exit status 1 if anything does",
        ),
        "export": (_store_export, "all rows of the journals as one table"),
    }
    made = {}
    for name, (function, text) in described.items():
        made[name] = actions.add_parser(name, help=text.split(".")[0], description=text)
        made[name].set_defaults(function=function, log=None)
    results: dict[str, Any] = {"type": Path, "default": Path("results")}
    for name in ("list", "check", "export"):
        made[name].add_argument("results", nargs="?", help="default: results", **results)
    made["list"].add_argument("--json", action="store_true", help="print it as JSON")
    merge, export = made["merge"].add_argument, made["export"].add_argument
    merge("sources", nargs="+", type=Path, help="folders of results of other machines")
    merge("--into", help="folder that they are added to; default: results", **results)
    kinds = ("drawn", "timed", "verify", "served", "speed", "judge")
    export("--kind", nargs="+", choices=kinds, default=[], help="of these alone")
    export("--out", type=Path, required=True, help="the file to write, .csv or .jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one stage. What is wrong with the input is one line and exit status 2."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not getattr(args, "passes_on", False):
        parser.exit(
            2,
            f"diffaccel {args.command}: unrecognized arguments: {' '.join(rest)}. "
            f"`diffaccel {args.command} --help` lists what there is\n",
        )
    args.arguments = rest
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if args.log is not None:
        args.log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(args.log, mode="w"))
    logging.basicConfig(format="%(message)s", handlers=handlers)
    logging.getLogger("diffaccel").setLevel(logging.INFO)
    logging.captureWarnings(True)
    # A log on a full disk is a line less, and not a traceback before what is wrong.
    logging.raiseExceptions = False
    if args.function in (_baseline, _search, _verify, _verdicts):
        # All is fetched by then; measuring neither waits for a network nor needs one.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with jobs.noted(args.log):
        if args.function in (_search, _verify, _speed):
            watched(functools.partial(_do, args))
        else:
            _do(args, Watch())


def _do(args: argparse.Namespace, watch: Watch) -> None:
    args.watch = watch
    try:
        args.function(args)
    except InputError as error:
        logging.error("%s", error)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            logging.error("%s. What was measured is kept: mend that, and run again", error)
            sys.exit(1)
        logging.exception("%s failed", getattr(args, "out", "the command"))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
