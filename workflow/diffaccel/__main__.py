"""``python -m diffaccel``; see `diffaccel.cli`."""

from diffaccel.cli import main

main()
