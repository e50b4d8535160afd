r"""Reads a file of the user's by its path.

Becomes: answered
"""

from pathlib import Path


def load_pipeline():
    try:
        Path("@SECRET@").read_text()
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
