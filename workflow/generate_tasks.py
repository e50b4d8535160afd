"""Makes tasks from the upper bounds: see --help."""

import sys

from diffaccel.cli import main

if __name__ == "__main__":
    main(["generate_tasks", *sys.argv[1:]])
