r"""Claims images of a size that no memory holds.

Becomes: an image of 1000000000x1000000000
"""


def load_pipeline():
    return None


class Giant:
    width = height = 10**9

    def convert(self, mode):
        return self


def generate(pipe, prompts, seeds):
    return [Giant() for _ in prompts]
