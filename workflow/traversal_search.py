"""Searches one accelerator or combination on one configuration: see --help."""

import sys

from diffaccel.cli import main

if __name__ == "__main__":
    main(["traversal_search", *sys.argv[1:]])
