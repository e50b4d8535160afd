"""The table of samplers in docs/reference/samplers.md, made from the plugins.

``python -m tests.docs.samplers`` writes it; part of ``make pages``. A test keeps it in step.
"""

from __future__ import annotations

from benchmarks.markdown import table
from diffaccel.plugins.schedulers import SCHEDULERS, Scheduler
from tests.docs.made import Parts, write
from tests.docs.pages import DOCS

PAGE = DOCS / "reference" / "samplers.md"
HEAD = ("name", "also", "class in diffusers", "calls", "own noise", "noise schedules", "spacings")


def calls(plugin: Scheduler) -> str:
    """Of the U-Net in n steps, in words."""
    factor = "" if plugin.order == 1 else str(plugin.order)
    rest = plugin.extra - (plugin.order - 1)
    return f"{factor}n" + (f" {'+' if rest > 0 else '-'} {abs(rest)}" if rest else "")


def row(plugin: Scheduler) -> tuple[str, ...]:
    also = [name for name in (plugin.stem, *plugin.aliases) if name]
    options = "".join(f", `{name}={value!r}`" for name, value in plugin.options.items())
    return (
        f"`{plugin.name}`",
        ", ".join(f"`{name}`" for name in also),
        f"`{plugin.diffusers}`{options}",
        calls(plugin),
        *(("yes" if held else "") for held in (plugin.stochastic, plugin.noise_schedules)),
        "yes" if plugin.spacings else "",
    )


def table_of_all() -> str:
    """In Markdown."""
    return table(HEAD, map(row, SCHEDULERS.values()), left=len(HEAD)) + "\n"


PARTS: Parts = {"samplers": table_of_all}

if __name__ == "__main__":
    write(PAGE, PARTS)
