"""Every accelerator and combination on SD2.1's layout."""

from __future__ import annotations

from .cells import Cells, cells


@cells("SD2.1")
class TestSD21(Cells):
    family = "SD2.1"
