"""The schedulers, by the names that tasks and the command line have for them."""

from __future__ import annotations

from diffaccel.registry import UnknownNameError, suggest

SCHEDULERS: dict[str, str] = {
    "DDIM": "DDIMScheduler",
    "DPM-Solver++": "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler": "UniPCMultistepScheduler",
}
"""Name in tasks and on the command line -> diffusers' class."""


def scheduler_class(name: str) -> str:
    """diffusers' class of a scheduler that is named as in tasks.

    Raises:
        UnknownNameError: no scheduler has this name.
    """
    try:
        return SCHEDULERS[name]
    except KeyError:
        raise UnknownNameError(f"unknown scheduler {name!r}: {suggest(name, SCHEDULERS)}") from None
