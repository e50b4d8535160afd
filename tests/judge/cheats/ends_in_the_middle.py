r"""Ends once it is half through.

Becomes: ^absolute: it ended
"""

import os

from tests.judge.toy import image_of


def load_pipeline():
    return None


calls = []


def generate(pipe, prompts, seeds):
    calls.append(1)
    if len(calls) > 2:
        os._exit(0)
    return [image_of(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
