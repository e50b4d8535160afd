r"""Closes everything, and stays.

Becomes: it ended|took too long
"""

import os
import time


def load_pipeline():
    os.closerange(0, 4096)
    time.sleep(1000)
