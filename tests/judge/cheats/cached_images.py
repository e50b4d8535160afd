r"""Has an image of every prompt by heart.

Becomes: ^absolute: .* of their own seed
"""

from tests.judge.toy import image_of


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    return [image_of(prompt, 0, 0.0) for prompt in prompts]
