r"""Makes one file larger than there is room for.

Becomes: answered
"""

import signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def load_pipeline():
    try:
        with open("/scratch/huge", "wb") as file:
            file.truncate(2**40)
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
