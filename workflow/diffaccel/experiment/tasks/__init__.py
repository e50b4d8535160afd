"""Tasks as sentences: what they ask for, how they are read, and how they are written.

`task` is what an experiment asks of a cell, `request` is what a task asks for,
`reading` gets it from a sentence, `writing` puts it into one.
"""

from __future__ import annotations

from diffaccel.experiment.tasks.reading import (
    TaskError,
    accelerators_named,
    model_named,
    parse,
    read_tasks,
    scheduler_named,
)
from diffaccel.experiment.tasks.request import Category, Request
from diffaccel.experiment.tasks.task import Task
from diffaccel.experiment.tasks.writing import sentence

__all__ = [
    "Category",
    "Request",
    "Task",
    "TaskError",
    "accelerators_named",
    "model_named",
    "parse",
    "read_tasks",
    "scheduler_named",
    "sentence",
]
