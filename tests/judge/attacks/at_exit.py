r"""Refuses to end: its exit handler waits for ever.

Becomes: answered
"""

import atexit
import time


def load_pipeline():
    atexit.register(time.sleep, 1000)


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
