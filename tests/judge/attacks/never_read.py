r"""Is never done with being read.

Becomes: took too long
"""

while True:
    pass
