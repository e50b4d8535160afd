"""The pictures of docs/reference/report.md, of the report of a run.

``python -m tests.browser.pictures results/cpu/report.html docs/images/report``; part of ``make
pictures``.
"""

from __future__ import annotations

import argparse
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser.tab import Tab, chromium

QUALITY = 80
SERIES = "T-Gate"
"""Whose frontier is walked to its end."""


def shoot(tab: Tab, out: Path) -> None:
    """What the window shows."""
    tab.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    shot = tab.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"])))
    image.convert("RGB").save(out, quality=QUALITY)
    print(f"{out}: {image.width}x{image.height}, {out.stat().st_size / 1024:.0f} KiB")


def walk(tab: Tab) -> None:
    """To the most aggressive candidate of a series, and the third prompt's images."""
    legend = [
        each for each in tab.all("#legend button") if each.text.split(maxsplit=1)[1] == SERIES
    ]
    tab.press(legend[0])
    slider = "const e = document.getElementById('place'); e.value = e.max;"
    tab.js(f"{slider} e.dispatchEvent(new Event('input', {{bubbles: true}}))")
    if len(thumbs := tab.all("#thumbs button")) > 2:
        tab.press(thumbs[2])
    tab.js("document.getElementById('frontier').scrollIntoView({behavior: 'instant'})")


def take(driver: Any, page: Path, folder: Path) -> None:
    """All pictures of one page."""
    shoot(Tab(driver, page, (1280, 900)), folder / "first-screen.webp")
    shoot(Tab(driver, page, (1280, 900), dark=True), folder / "dark.webp")
    for name, size in {"frontier": (1280, 760), "phone": (390, 1400)}.items():
        tab = Tab(driver, page, size)
        walk(tab)
        shoot(tab, folder / f"{name}.webp")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.pictures", description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    with chromium() as driver:
        take(driver, args.page.absolute(), args.folder)


if __name__ == "__main__":
    main()
