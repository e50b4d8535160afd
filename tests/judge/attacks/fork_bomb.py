r"""Starts processes until there is no room for another.

Becomes: took too long|it ended|BlockingIOError|more than
"""

import os


def load_pipeline():
    while True:
        os.fork()
