r"""Types a command into the terminal that the judge was started from.

Becomes: answered
"""

import fcntl
import os
import termios


def load_pipeline():
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
        fcntl.ioctl(terminal, termios.TIOCSTI, b"!")
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
