"""`diffaccel compare`: a person compares the images of answers with the baseline's, blind."""

from __future__ import annotations

import argparse
import logging
import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaccel.cli.results import results_folder
from diffaccel.errors import InputError

if TYPE_CHECKING:
    from diffaccel.report.blind import Choice, Compared, Session

log = logging.getLogger(__name__)


def _compare(args: argparse.Namespace) -> None:
    from diffaccel.report import blind

    folder = results_folder(args.folder)
    choice = _choice(args, folder)
    answers = blind.answers_in(folder, choice)
    journals = folder / "journal"
    if not args.results:
        if args.generate:
            answers = _generated(answers, folder, choice)
        if not any(each.asked for each in answers):
            raise InputError(_nothing_kept(answers, folder))
        _ask(blind.Session(answers, journals, args.judge, args.seed), args.port, args.browser)
    print("\n".join(blind.lines(answers, journals)))
    if not args.results:
        print(f"To have this in the report: diffaccel report {folder}")


def _nothing_kept(answers: list[Compared], folder: Path) -> str:
    """Why there is nothing to compare."""
    merge = "merge the results of that machine: `diffaccel store merge /path/to/its/results`"
    if not any(each.originals for each in answers):
        return (
            f"{folder / 'baseline'}: the baseline's images are missing. Run `diffaccel run` where "
            f"this was measured, or {merge}"
        )
    return (
        f"{folder / 'journal/images'} keeps no images of these {len(answers)} answers. Add "
        f"`--generate` on the machine that measured them, or {merge}"
    )


def _generated(answers: list[Compared], folder: Path, choice: Choice) -> list[Compared]:
    """The answers, after the images that are not kept of them were generated."""
    from diffaccel.report import blind
    from diffaccel.report.blind.generating import generate, lacking

    # All is fetched by then, as for the stages that measure.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not (wanted := lacking(answers)):
        return answers
    generate(wanted, folder)
    return blind.answers_in(folder, choice)


def _choice(args: argparse.Namespace, folder: Path) -> Choice:
    """Names as people spell them, as those of what is there.

    Raises:
        InputError: a name is not known.
    """
    from diffaccel.experiment import tasks
    from diffaccel.experiment.grid import Configuration
    from diffaccel.plugins.models import known_models
    from diffaccel.plugins.schedulers import SCHEDULERS
    from diffaccel.report.blind import Choice

    named = [Configuration.named(path.stem) for path in folder.glob("search/*.json")]
    there = [each for each in named if each is not None]
    models = dict.fromkeys([*known_models(), *(each.model for each in there)])
    own = {each.scheduler for each in there} - {*SCHEDULERS}
    return Choice(
        args.model and tasks.model_named(args.model, models),
        args.scheduler and tasks.scheduler_named(args.scheduler, own),
        args.steps,
        [tasks.accelerators_named(each) for each in args.accelerators],
    )


def _ask(session: Session, port: int, browser: bool) -> None:
    """Serves the page until it is finished, there or by Ctrl-C."""
    from diffaccel.report import blind

    with blind.serve(session, port) as server:
        log.info(
            "%d pairs to judge, %d judged before. Open %s to judge. To end, press Finish on the "
            "page, or Ctrl-C here. Each verdict is saved at once.",
            len(session.left),
            session.before,
            server.address,
        )
        if browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.info("")
    for reason in session.skipped:
        log.warning("left out: %s", reason)


def add_compare(commands: Any) -> None:
    text = (
        "compare the images of answers with the baseline's by eye, blind, on a page of this "
        "machine; verdicts are saved, and the result has a 95% interval"
    )
    command = commands.add_parser("compare", help=text.split(",")[0], description=text)
    command.add_argument(
        "folder", nargs="?", type=Path, metavar="results", help="default: this platform's"
    )
    command.add_argument("--model", help="answers of this model alone, e.g. SD1.5")
    command.add_argument("--scheduler", help="of this scheduler alone, e.g. DDIM")
    command.add_argument("--steps", type=int, help="of this number of steps alone")
    command.add_argument(
        "--accelerators", nargs="+", default=[], help='these alone, e.g. ToMe "DeepCache, ToMe"'
    )
    command.add_argument(
        "--generate",
        action="store_true",
        help="first generate missing images, e.g. of fewer steps; on the machine that measured",
    )
    command.add_argument("--judge", metavar="NAME", help="who judges; each judges every pair once")
    command.add_argument(
        "--seed", type=int, help="of the order and of the sides; default: a random one"
    )
    command.add_argument("--port", type=int, default=0, help="default: any that is free")
    command.add_argument(
        "--no-browser", dest="browser", action="store_false", help="open none: print the address"
    )
    command.add_argument(
        "--results", action="store_true", help="print what was said so far, and ask nothing"
    )
    command.set_defaults(function=_compare, log=None)
