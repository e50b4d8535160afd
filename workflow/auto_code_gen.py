"""Renders the script of every task that can be met: see --help."""

import sys

from diffaccel.cli import main

if __name__ == "__main__":
    main(["auto_code_gen", *sys.argv[1:]])
