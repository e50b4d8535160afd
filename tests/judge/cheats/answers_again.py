r"""Keeps what it drew at first, and gives it for every later call.

Becomes: ^absolute:
"""

from tests.judge.toy import draw


def load_pipeline():
    return None


kept = []


def generate(pipe, prompts, seeds):
    kept.append([draw(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)])
    return kept[0]
