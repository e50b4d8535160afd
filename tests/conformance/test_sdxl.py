"""Every accelerator and combination on SDXL's layout."""

from __future__ import annotations

from .cells import Cells, cells


@cells("SDXL")
class TestSDXL(Cells):
    family = "SDXL"
