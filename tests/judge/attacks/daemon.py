r"""Leaves a process behind, in a session of its own, that outlives its end.

Becomes: answered
"""

import os
import time


def load_pipeline():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
