"""Settings for all tests."""

from __future__ import annotations

import os

# Tests run side by side: more threads than cores make tiny networks a hundred times slower, in
# this process and in those that it starts.
os.environ["OMP_NUM_THREADS"] = "1"
