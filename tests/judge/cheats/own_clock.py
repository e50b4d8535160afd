r"""Sets the clock: time stands still for whoever asks it here.

Becomes: ^relative: speedup
"""

import time

from tests.judge.toy import image_of


def load_pipeline():
    return None


time.sleep = lambda seconds: None
start = time.time()


def generate(pipe, prompts, seeds):
    images = [image_of(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    time.time = time.monotonic = lambda: start
    return images
