r"""Answers with fewer images than prompts.

Becomes: 1 images for 2 prompts
"""


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3))]
