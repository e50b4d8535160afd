r"""Draws as it should until all is scored that it thinks is scored.

Becomes: ^absolute:
"""

from tests.judge.toy import image_of


def load_pipeline():
    return None


calls = []


def generate(pipe, prompts, seeds):
    calls.append(1)
    if len(calls) <= 3:
        return [image_of(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    return [memoryview(bytes(range(192))).cast("B", (8, 8, 3)) for _ in prompts]
