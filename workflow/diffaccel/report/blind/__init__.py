"""Comparing images by eye, blind: a person sees two images and does not know which is accelerated.

`answers` finds what can be compared, and `generating` makes the images that are not kept. `session`
shows pairs in random order, and `server` is the page. `records` is the journal of what people said,
`preference` counts it and has its interval, and `table` prints that.
"""

from __future__ import annotations

from diffaccel.report.blind.answers import Choice, Compared, answers_in, answers_of
from diffaccel.report.blind.preference import Preference, preferences
from diffaccel.report.blind.server import serve
from diffaccel.report.blind.session import Session
from diffaccel.report.blind.table import lines

__all__ = [
    "Choice",
    "Compared",
    "Preference",
    "Session",
    "answers_in",
    "answers_of",
    "lines",
    "preferences",
    "serve",
]
