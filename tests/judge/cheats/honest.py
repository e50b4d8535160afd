r"""Does what was asked, and is as fast as it was to be.

Becomes: ^passed$
"""

from tests.judge.toy import COST, image_of


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    return [image_of(prompt, seed, COST / 20) for prompt, seed in zip(prompts, seeds, strict=True)]
