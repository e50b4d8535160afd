"""The report: one page that shows what was measured on a platform, and needs nothing beside it.

`gather` reads the records, `album` fits the images, `charts` draws the frontiers, `render` writes
the page from templates/report. `compare` sets two runs side by side.
"""

from __future__ import annotations

from diffaccel.report.page.render import write, write_compared

__all__ = ["write", "write_compared"]
