r"""Keeps what it drew at first, and gives it for every later call.

Becomes: ^absolute:
"""

from tests.judge.toy import image_of


def load_pipeline():
    return None


kept = []


def generate(pipe, prompts, seeds):
    kept.append([image_of(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)])
    return kept[0]
