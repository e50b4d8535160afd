r"""Prints without end.

Becomes: took too long
"""


def load_pipeline():
    while True:
        print("x" * 65536)
