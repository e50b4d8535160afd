r"""Writes into every folder there is.

Becomes: answered
"""

import contextlib
import os
import sys


def load_pipeline():
    try:
        roots = ["/", "/usr", "/etc", "/dev", "/dev/shm", "/tmp", "/judged", "/sys", "/proc"]
        for root in [*roots, sys.prefix, os.path.dirname(os.__file__)]:
            with contextlib.suppress(OSError), open(os.path.join(root, "written"), "w"):
                raise SystemError("SUCCEEDED")
        return None
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
