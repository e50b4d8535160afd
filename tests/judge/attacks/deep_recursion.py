r"""Recurses until the stack ends.

Becomes: RecursionError|it ended|more than .* of memory|took too long
"""

import sys

sys.setrecursionlimit(10**8)


def load_pipeline():
    return load_pipeline()
