r"""Has images that say one size and hold another.

Becomes: took too long|not asked for
"""


def load_pipeline():
    return None


class Liar:
    width = height = 4

    def convert(self, mode):
        return self

    def tobytes(self):
        return bytes(3)


def generate(pipe, prompts, seeds):
    return [Liar() for _ in prompts]
