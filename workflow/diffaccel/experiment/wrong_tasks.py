"""What is wrong with the task of a model, a line a mistake, before any job starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from diffaccel.errors import InputError
from diffaccel.experiment import inputs
from diffaccel.experiment.schema import ModelEntry
from diffaccel.plugins.models import FAMILIES, ModelSpec
from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, PipelineTask, class_for, steps_run
from diffaccel.plugins.sources import is_local
from diffaccel.registry import suggest

KEYS = ("inputs", "heldout_inputs", "strength", "controlnet", "controlnet_scale")
"""What only a task has."""


def wrong_task(entry: ModelEntry) -> list[str]:
    """What is wrong with a model's entry, as far as its keys tell."""
    where = f"models: {entry.name}"
    given = [key for key in KEYS if vars(entry)[key] is not None]
    if entry.task is None:
        named = f"one of {', '.join(PIPELINE_TASKS)}"
        return [f"{where}: {key} is for a model with a `task`, {named}" for key in given[:1]]
    if entry.task not in PIPELINE_TASKS:
        return [f"{where}: unknown task {entry.task!r}; {suggest(entry.task, PIPELINE_TASKS)}"]
    task = PIPELINE_TASKS[entry.task]
    return [f"{where}: {line}" for line in (*_unfit_keys(entry, task), *_folders(entry, task))]


def _unfit_keys(entry: ModelEntry, task: PipelineTask) -> list[str]:
    takes = {
        "strength": bool(task.strengths),
        "controlnet": task.controlled,
        "controlnet_scale": task.controlled,
    }
    given = [key for key, taken in takes.items() if not taken and vars(entry)[key] is not None]
    others = {key: _having(key) for key in given}
    lines = [f"{key} is for {others[key]}, and the task is {task.name}" for key in given]
    if task.controlled and entry.controlnet is None:
        lines.append(f"the task {task.name} needs a `controlnet`: a folder or a hub id")
    if entry.heldout_inputs is not None and entry.heldout is None:
        lines.append(
            "heldout_inputs needs `heldout`, a file of held-out prompts. Without that file, leave "
            "it out: the held-out prompts and images are then the next ones in prompts and inputs"
        )
    return lines


def _having(key: str) -> str:
    """The tasks that take a key, in words."""
    found = [
        task.name
        for task in PIPELINE_TASKS.values()
        if (task.strengths if key == "strength" else task.controlled)
    ]
    return " and ".join(found)


def _folders(entry: ModelEntry, task: PipelineTask) -> list[str]:
    if entry.inputs is None:
        needed = " and a ".join(each.name for each in task.inputs)
        return [f"the task {task.name} needs `inputs`: a folder with an {needed} for each prompt"]
    lines = [
        f"{key}: there is no folder {folder!r}"
        for key in ("inputs", "heldout_inputs")
        if (folder := vars(entry)[key]) is not None and not Path(folder).is_dir()
    ]
    source = entry.controlnet
    if source is not None and is_local(source) and not Path(source).is_dir():
        lines.append(f"controlnet: there is no folder {source!r}; a hub id is owner/name")
    return lines


def unfit_spec(spec: ModelSpec, steps: Sequence[int]) -> list[str]:
    """What is wrong with the model that an entry stands for, or nothing.

    Args:
        steps: all numbers of steps that are asked for.
    """
    if spec.task is None:
        return []
    task, lines = PIPELINE_TASKS[spec.task], []
    kind = class_for(spec.task, FAMILIES[spec.family].pipeline_class)
    if spec.guidance_rescale is not None and kind not in task.rescales:
        lines.append(f"guidance_rescale: diffusers' {kind} does not take it; leave it out")
    for count in steps:
        if not steps_run(count, spec.strength):
            least = math.ceil(1000 / count) / 1000  # to three digits
            lines.append(
                f"strength: {spec.strength} runs none of {count} steps; set at least {least:g}"
            )
    return [f"models: {spec.name}: {line}" for line in lines]


def unread_inputs(spec: ModelSpec, count: int, most: int, *, heldout: bool) -> list[str]:
    """What is wrong with the images of a model's prompts; arguments as of `inputs.check`."""
    try:
        if spec.task is not None:
            inputs.check(spec, count, most, heldout=heldout)
    except InputError as error:
        return [f"models: {spec.name}: {error}"]
    return []
