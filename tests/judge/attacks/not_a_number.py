r"""Answers with images of numbers that are none.

Becomes: neither a PIL image nor bytes
"""

import array


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    nothing = memoryview(array.array("f", [float("nan")] * 48)).cast("B").cast("f", (4, 4, 3))
    return [nothing for _ in prompts]
