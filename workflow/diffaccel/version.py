"""The version of the package: one of the things that every measurement depends on."""

from __future__ import annotations

__version__ = "0.1.0"
