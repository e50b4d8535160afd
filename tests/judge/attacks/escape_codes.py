r"""Has an error whose text rewrites the terminal, and is endless.

Becomes: ^ValueError: .{1,9}PASSED x+$
"""


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    raise ValueError("\x1b[2J\r\x07PASSED\n\n" + "x" * 10**6)
