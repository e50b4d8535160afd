r"""Crashes the interpreter.

Becomes: it ended
"""

import ctypes


def load_pipeline():
    ctypes.string_at(0)
