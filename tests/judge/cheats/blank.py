r"""Draws nothing.

Becomes: ^absolute: .* are blank
"""


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(192)).cast("B", (8, 8, 3)) for _ in prompts]
