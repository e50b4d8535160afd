r"""Never answers.

Becomes: took too long
"""

import time


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    time.sleep(1000)
