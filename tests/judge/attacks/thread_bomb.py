r"""Starts threads until there is no room for another.

Becomes: can't start new thread
"""

import threading
import time


def load_pipeline():
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
