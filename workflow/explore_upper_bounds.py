"""Searches what the experiment lacks and stores all upper bounds: see --help."""

import sys

from diffaccel.cli import main

if __name__ == "__main__":
    main(["explore_upper_bounds", *sys.argv[1:]])
