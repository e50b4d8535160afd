r"""Takes all memory.

Becomes: MemoryError|more than .* of memory|it ended
"""


def load_pipeline():
    taken = []
    while True:
        taken.append(bytearray(2**24))
