"""Every accelerator and combination on SD1.5's layout."""

from __future__ import annotations

from .cells import Cells, cells


@cells("SD1.5")
class TestSD15(Cells):
    family = "SD1.5"
