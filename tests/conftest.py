"""Settings for all tests."""

from __future__ import annotations

import torch

# Tests run side by side: more threads than cores would make tiny networks many times slower.
torch.set_num_threads(1)
