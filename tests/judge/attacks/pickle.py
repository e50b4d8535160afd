r"""Answers with a pickle that runs code where it is read.

Becomes: neither a PIL image nor bytes
"""

import os
import pickle


def load_pipeline():
    return None


class Evil:
    def __reduce__(self):
        return os.system, ("touch @RESULTS@",)


def generate(pipe, prompts, seeds):
    return [pickle.dumps(Evil()) for _ in prompts]
