r"""Ignores every signal and goes on for ever.

Becomes: took too long
"""

import contextlib
import signal


def load_pipeline():
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    while True:
        pass
