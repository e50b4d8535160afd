"""Makes the benchmark's prompts: `diffaccel prompts`, under the name of the first version."""

import sys

from diffaccel.cli import main

if __name__ == "__main__":
    main(["prompts", *sys.argv[1:]])
