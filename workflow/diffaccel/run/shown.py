"""Shows a run while it goes on: as one view that is redrawn in place, or as lines where there is no
terminal to redraw."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from diffaccel.run.events import Events, heartbeat
from diffaccel.run.progress import Progress
from diffaccel.run.reader import Reader
from diffaccel.run.view import rendered

REFRESH = 1.0
"""Seconds between two readings."""
SILENCE = 50.0
"""Seconds after which a line says how far it is where nothing else did."""
WIDTH = 100
"""Columns where there is no terminal."""


def terminal() -> Console:
    """Where a run is shown: plain text where it is not live."""
    console = Console(stderr=True, highlight=False)
    return console if is_live(console) else Console(stderr=True, force_terminal=False)


def is_live(console: Console) -> bool:
    """Whether a view can be redrawn in place, and the user wants that."""
    plain = console.is_dumb_terminal or bool(os.environ.get("NO_COLOR"))
    return console.is_terminal and not plain


class Shown:
    """A run as it is shown while it goes on.

    Args:
        console: where.
        reader: of its store.
    """

    def __init__(self, console: Console, reader: Reader) -> None:
        self._console, self._reader = console, reader
        self._events = Events()
        self._silent = time.monotonic()
        self._live: Live | None = None
        if is_live(console):
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()

    def refresh(self) -> Progress:
        """Reads the run once, and shows what there is."""
        progress = self._reader.read()
        for line in self._events.news(progress):
            self.say(line)
        if self._live is not None:
            self._live.update(rendered(progress, self._console), refresh=True)
        elif time.monotonic() - self._silent > SILENCE and progress.state == "going":
            self.say(heartbeat(progress))
        return progress

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._live is not None:
            self._live.update(Text())
            self._live.stop()
            self._live = None

    def show_stopped(self) -> None:
        """What there is at the end of a run that was asked to stop."""
        progress = self._reader.read()
        self._console.print(
            f"stopped: {heartbeat(progress)}. `diffaccel run` goes on from there.", soft_wrap=True
        )

    def say(self, line: str) -> None:
        """A line above the view, with the time."""
        self._silent = time.monotonic()
        red = "red" if line.startswith("failed: ") else ""
        text = Text.assemble((time.strftime("%H:%M:%S "), "dim"), (line, red))
        self._console.print(text, soft_wrap=self._live is None, highlight=False)


def status(reader: Reader, watch: bool) -> None:
    """Prints how a run is: once, or again and again until it ends."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(reader, console)
    console.print(rendered(reader.read()))


def _watch(reader: Reader, console: Console) -> None:
    """Shows a run until it ends."""
    if not is_live(console):
        shown = Shown(console, reader)
        while shown.refresh().state == "going":
            time.sleep(REFRESH)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while (progress := reader.read()).state == "going":
            live.update(rendered(progress, console), refresh=True)
            time.sleep(REFRESH)
