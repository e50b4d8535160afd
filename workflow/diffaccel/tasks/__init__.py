"""Tasks as sentences: what they ask for, how they are read, and how they are written.

`request` is what a task asks for, `reading` gets it from a sentence, `writing` puts it into one.
"""

from __future__ import annotations

from diffaccel.tasks.reading import (
    TaskError,
    accelerators_named,
    model_named,
    parse,
    read_tasks,
    scheduler_named,
)
from diffaccel.tasks.request import Category, Request
from diffaccel.tasks.writing import sentence

__all__ = [
    "Category",
    "Request",
    "TaskError",
    "accelerators_named",
    "model_named",
    "parse",
    "read_tasks",
    "scheduler_named",
    "sentence",
]
