"""Writes what is installed here as requirements.lock and as the conda environment of the rules.

``make lock`` runs it in a fresh environment; a test keeps both files in step.
"""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
CONDA = ROOT / "envs" / "diffaccel.yaml"
_OURS = {"diffaccel", "pip"}
HEADER = "# Made by `make lock`; do not edit.\n"


def pins() -> list[str]:
    """One ``name==version`` a distribution; a build's local label (``+cpu``) is left out."""
    found = {(d.metadata["Name"], d.version.split("+")[0]) for d in distributions()}
    return sorted(
        (f"{name}=={version}" for name, version in found if name not in _OURS), key=str.lower
    )


def conda(lines: list[str]) -> str:
    """The conda environment with the same pins."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    pip = "".join(f"      - {line}\n" for line in lines)
    return (
        f"{HEADER}name: diffaccel\nchannels:\n  - conda-forge\n  - nodefaults\ndependencies:\n"
        f"  - python={python}\n  - pip\n  - pip:\n{pip}"
    )


def main() -> None:
    lines = pins()
    LOCK.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    CONDA.write_text(conda(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
