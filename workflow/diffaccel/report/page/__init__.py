"""The report: one page that shows what was measured on a platform, and needs nothing beside it.

`gather` reads the records and makes the `views` that the page shows: `frontiers` of each
configuration with their `history`, `steps` compared, and `trust`, how sure the numbers are.
`album` fits the images, `eyes` finds the worst of each answer and what people said of them,
`charts` draws, and `render` writes the page from templates/report; `parts` writes the same as files
of their own. `compare` sets two runs side by side.
"""

from __future__ import annotations

from diffaccel.report.page.render import write, write_compared

__all__ = ["write", "write_compared"]
