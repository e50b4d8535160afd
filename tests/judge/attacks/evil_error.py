r"""Has an error whose text cannot be made.

Becomes: it ended
"""


def load_pipeline():
    return None


class Evil(Exception):
    def __str__(self):
        raise Evil


def generate(pipe, prompts, seeds):
    raise Evil
