r"""Takes all memory, each process a part that it may.

Becomes: more than .* of memory|took nearly all|took too long|it ended
"""

import os
import time


def load_pipeline():
    for _ in range(16):
        if os.fork() == 0:
            taken = bytearray(100 * 2**20)
            time.sleep(60)
            print(len(taken))
    time.sleep(60)
