r"""Overwrites its own source and the runner's.

Becomes: answered
"""


def load_pipeline():
    try:
        with open("/judged/inside.py", "w") as file:
            file.write("evil")
    except (OSError, ValueError, PermissionError, AttributeError):
        return None
    raise SystemError("SUCCEEDED")


def generate(pipe, prompts, seeds):
    return [memoryview(bytes(48)).cast("B", (4, 4, 3)) for _ in prompts]
