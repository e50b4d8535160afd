"""The benchmark's commands: `prompts` and `judge`."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def _judge(args: argparse.Namespace) -> None:
    from diffaccel.benchmark.judge import sandbox, table
    from diffaccel.experiment import config, plan
    from diffaccel.run import start as run

    judge: dict[str, Any] = {"scripts": str(args.folder), "prompts": str(args.prompts)}
    if args.unsandboxed:
        judge["sandbox"] = False
    raw = config.read_raw(Path("config.yaml"))
    experiment = plan.Experiment(
        config.load({**raw, "judge": {**(raw.get("judge") or {}), **judge}})
    )
    sandbox.how(experiment.config.judge.sandbox)
    given = experiment.given
    log.info("%d scripts to judge", sum(map(len, given.configurations.values())))
    for each, reason in given.unparsed:
        log.warning("%s: its prompt is not understood: %s", each.id, reason.splitlines()[0])
    if not run.make(["judge", "--config", f"judge={json.dumps(judge)}", *args.arguments]):
        raise SystemExit(1)
    print(table.as_text(Path(experiment.config.results) / experiment.platform / "judge"))


def _prompts(args: argparse.Namespace) -> None:
    from diffaccel.benchmark import prompt_files
    from diffaccel.experiment import config, plan
    from diffaccel.experiment.tasks import Category

    experiment = plan.Experiment(config.read(args.config))
    folder = args.out or Path(experiment.config.results) / "benchmark"
    log.info("%s", prompt_files.write(folder, experiment, [Category(n) for n in args.category]))


def add_prompts(commands: Any) -> None:
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


def add_judge(commands: Any) -> None:
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
