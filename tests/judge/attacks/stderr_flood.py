r"""Prints errors without end into the first process's output.

Becomes: took too long|it ended
"""

import contextlib
import os


def load_pipeline():
    handle = 2
    with contextlib.suppress(OSError):
        handle = os.open("/proc/1/fd/2", os.O_WRONLY)
    while True:
        os.write(handle, b"x" * 65536)
