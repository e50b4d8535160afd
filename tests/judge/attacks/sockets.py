r"""Opens connections.

Becomes: answered
"""

import socket


def load_pipeline():
    try:
        for kind in (socket.AF_INET, socket.AF_INET6):
            socket.socket(kind, socket.SOCK_STREAM).connect_ex(("1.1.1.1", 80))
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
