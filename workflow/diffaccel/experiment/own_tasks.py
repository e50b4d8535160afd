"""The tasks of a user's list, from sentences to what is asked of cells."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from diffaccel.experiment import tasks
from diffaccel.experiment.grid import Cell
from diffaccel.experiment.limits import limits_of, loss_limit_for, merged
from diffaccel.experiment.metrics import metrics_for, refused, wrong_metrics
from diffaccel.experiment.prompts import PromptError, read_prompts
from diffaccel.experiment.schema import Config
from diffaccel.experiment.tasks import Request, Task
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.schedulers import SchedulerSpec


def read_own_tasks(
    path: Path,
    config: Config,
    models: Mapping[str, ModelSpec],
    schedulers: Mapping[str, SchedulerSpec],
    platform: str,
) -> list[Task]:
    """The lines of a user's list. A sentence that cannot be searched for gives a task without a
    cell, which says why.

    Args:
        path: of the list.
        models: those that can be named.
        schedulers: a user's own.
        platform: the hardware that results are for here.

    Raises:
        TaskError: the list cannot be read.
    """

    def read(name: str, sentence: str) -> Task:
        try:
            request = tasks.parse(sentence, list(models), schedulers)
            _refuse(request, models[request.model], platform)
            _refuse_metrics(request, models[request.model], config)
        except tasks.TaskError as error:
            limit = config.loss_limit
            return Task(name, "user", None, None, None, limit, sentence, str(error))
        return _task(name, sentence, request, config)

    lines = tasks.read_tasks(path)
    return [
        read(f"user-{number:03}", sentence) for number, (_, sentence) in enumerate(lines, start=1)
    ]


def _task(name: str, sentence: str, request: Request, config: Config) -> Task:
    """What is asked of a cell: what the sentence leaves open is as configured."""
    named, limit = request.limits, loss_limit_for(config, request.model)
    return Task(
        name,
        "user",
        Cell(request.configuration, request.accelerators),
        request.speedup,
        None,
        limit if request.max_loss is None else request.max_loss,
        sentence,
        latency_s=request.latency_s,
        limits=merged(limits_of(config, request.model), named) if named else None,
    )


def _refuse(request: Request, spec: ModelSpec, platform: str) -> None:
    """Of what is understood, what is not searched for here."""
    if spec.untrained:
        raise tasks.TaskError(
            f"{spec.name} is untrained here: random weights generate noise, of which no loss can "
            f"be promised. For tasks, leave out `untrained: true` of the model {spec.name}"
        )
    if not request.accelerators:
        raise tasks.TaskError(
            f"no accelerators given (category {request.category}): what is searched for here "
            "are their candidates. Name one or several, e.g. accelerated by DeepCache"
        )
    if request.platform not in (None, platform):
        raise tasks.TaskError(
            f"the task is for {request.platform}, and what is measured here is for {platform}: "
            "run it there"
        )


def _refuse_metrics(request: Request, spec: ModelSpec, config: Config) -> None:
    """Limits of metrics that cannot be computed here."""
    if not request.limits:
        return
    named = metrics_for(config, spec.name, request.limits)
    problems = wrong_metrics(named)
    if not problems:
        with contextlib.suppress(PromptError):  # said of the configuration
            read = {spec.prompts: read_prompts(Path(spec.prompts), 1)}
            problems = refused(named, spec, read)
    if problems:
        raise tasks.TaskError("; ".join(problems))
