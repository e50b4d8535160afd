"""The workflow itself on a machine with a GPU, measured: see ``python -m benchmarks.gpu --help``.

Beside this file lies what was measured, a folder a platform. The pages in docs/ are made from it.
"""
