r"""Mounts a file system of its own.

Becomes: answered
"""

import ctypes


def load_pipeline():
    try:
        if ctypes.CDLL(None).mount(b"proc", b"/scratch", b"proc", 0, None) != 0:
            return None
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
