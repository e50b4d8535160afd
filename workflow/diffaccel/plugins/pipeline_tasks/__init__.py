"""What a model is used for besides text-to-image, one file each; see
`diffaccel.plugins.pipeline_tasks.base` for what one declares."""

from __future__ import annotations

from diffaccel.plugins.pipeline_tasks.base import (
    SETTINGS,
    SIZE,
    Input,
    PipelineTask,
    fitted,
    steps_run,
)
from diffaccel.registry import Registry

PIPELINE_TASKS: Registry[PipelineTask] = Registry("diffaccel.plugins.pipeline_tasks", "task")


def class_for(task: str | None, text_to_image: str) -> str:
    """diffusers' pipeline class of a task.

    Args:
        task: its name; None: text-to-image.
        text_to_image: class of the family's text-to-image pipeline.
    """
    return text_to_image if task is None else PIPELINE_TASKS[task].classes[text_to_image]


def task_of(pipeline_class: str) -> PipelineTask | None:
    """The task that a pipeline class is for; None: text-to-image, or none that is known."""
    found = (task for task in PIPELINE_TASKS.values() if pipeline_class in task.classes.values())
    return next(found, None)


def text_to_image(pipeline_class: str) -> str:
    """The text-to-image class with the same parts as a task's; of any other class, itself."""
    task = task_of(pipeline_class)
    if task is None:
        return pipeline_class
    return next(base for base, own in task.classes.items() if own == pipeline_class)


__all__ = [
    "PIPELINE_TASKS",
    "SETTINGS",
    "SIZE",
    "Input",
    "PipelineTask",
    "class_for",
    "fitted",
    "steps_run",
    "task_of",
    "text_to_image",
]
