r"""Ends while it is read.

Becomes: it ended
"""

import os

os._exit(0)
