r"""Does what was asked, twice as fast.

Becomes: ^passed$
"""

from tests.judge.toy import COST, draw


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    return [draw(prompt, seed, COST / 3) for prompt, seed in zip(prompts, seeds, strict=True)]
