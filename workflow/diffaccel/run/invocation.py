"""What a command line for snakemake asks for, read as snakemake reads it, before it runs.

So what is wrong is one message of ours: snakemake says it among the names of its own files.
"""

from __future__ import annotations

import contextlib
import io
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffaccel.errors import InputError
from diffaccel.experiment import config
from diffaccel.experiment.plan import Experiment
from diffaccel.machine import gpus, threads
from diffaccel.run.outlook import Outlook, at_once

DEFAULT = "config.yaml"
"""The file that the Snakefile names."""


def asked(arguments: Sequence[str]) -> Outlook | None:
    """What a run is going to do; None where something else is asked for, such as help.

    Args:
        arguments: of snakemake, with ``--snakefile``.

    Raises:
        InputError: snakemake would not understand them, or the configuration is wrong.
    """
    given = _parsed(arguments)
    if given is None:
        return None
    made = Experiment(config.load(_configuration(given)))
    # What cannot be read of these is known now, and not after minutes.
    _ = made.tasks, made.judged
    cores = threads.cores() if given.cores == "all" else given.cores
    return Outlook(made, at_once(made, int(cores) if cores else None, len(gpus.visible())))


def _parsed(arguments: Sequence[str]) -> Namespace | None:
    from snakemake.cli import parse_args

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _, given = parse_args(list(arguments))
    except SystemExit as end:
        if not end.code:
            return None
        _, _, problem = said.getvalue().rstrip().rpartition("error: ")
        raise InputError(
            f"{problem}. `diffaccel run` accepts snakemake's arguments: `snakemake --help` lists "
            "them"
        ) from None
    return given if isinstance(given, Namespace) else None


def _configuration(given: Namespace) -> Mapping[str, Any]:
    """What snakemake makes of the files and of what is said beside them."""
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    folder = Path(given.directory or ".")
    files = [Path(path) for path in given.configfile or ()]
    found: dict[str, Any] = {}
    if (default := folder / DEFAULT).is_file():
        # By the name that the user knows it by.
        files.insert(0, Path(DEFAULT) if folder == Path(".") else default)
    elif not files:
        raise InputError(
            f"there is no {DEFAULT} in {folder.resolve()}: run this in the folder that has yours, "
            "or add --configfile FILE. README has the first steps"
        )
    for path in files:
        update_config(found, dict(config.read_raw(path)))
    try:
        update_config(found, parse_config(given.config))
    except ValueError as error:
        raise InputError(f"--config: {error}") from None
    return found
