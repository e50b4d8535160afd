r"""Reads the memory of the first process.

Becomes: answered
"""

from pathlib import Path


def load_pipeline():
    try:
        with Path("/proc/1/mem").open("rb") as file:
            file.read(1)
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
