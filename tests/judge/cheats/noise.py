r"""Draws noise that fits no prompt.

Becomes: ^absolute:
"""

import random


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    noise = [bytes(random.choices(range(256), k=192)) for _ in prompts]
    return [memoryview(each).cast("B", (8, 8, 3)) for each in noise]
