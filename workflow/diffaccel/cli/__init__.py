"""The command line: what users call, and the stages as Snakemake's rules call them.

`main` is the entry. `runs` starts and follows runs, `results` shows them, `compare` has a person
compare their images, `store` lists, checks, merges and exports them, `benchmark` makes prompts and
judges, `first_version` has the commands of the first version, on what is `searched` of an
experiment, and `stages` what the rules call.
"""

from __future__ import annotations

from diffaccel.cli.main import main

__all__ = ["main"]
