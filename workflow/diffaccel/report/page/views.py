"""What the page shows, as records: points and frontiers of a configuration, and the whole page."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from diffaccel.experiment.grid import Configuration
from diffaccel.report.page.album import Album
from diffaccel.report.page.history import Gain, Influence
from diffaccel.report.page.steps import StepsView
from diffaccel.report.page.trust import Trust

FASTEST = "the fastest within the limit"
"""What the bound of a cell was chosen for, in words."""


@dataclass(frozen=True)
class WorstPair:
    """An image that a metric calls bad, beside the baseline's.

    Args:
        prompt: its number.
        value: of the metric; ``reference``: for the baseline's image, unless it compares the two.
        baseline, own: the images, in the album of such pairs.
    """

    prompt: int
    value: float
    reference: float | None
    baseline: int
    own: int


@dataclass(frozen=True)
class WorstImages:
    """The images of an answer that a metric calls the worst, the worst first.

    Args:
        among: of how many images that are kept, where worse ones are not.
    """

    metric: str
    pairs: list[WorstPair]
    among: int | None


@dataclass(frozen=True)
class Point:
    """A candidate in a frontier.

    Args:
        parameters: its values, in words.
        timed: whether its speedup was measured; else it is predicted.
        low, high: interval of the loss.
        within: whether its loss is below the limit, and all other limits are kept.
        used: how much of each other limit is used, by its words; 1 at the limit.
        error: standard error of the speedup, relative; None where it was not timed often enough.
        seconds: per image.
        memory: bytes of the GPU's memory, or the machine's, that calls take at most.
        means: mean per metric.
        marks: what it was chosen for: `FASTEST`, or a required speedup, ``1.5x``.
        images: in the album, by prompt.
        worst: of an answer, by each metric; what limits name first.
        eyes: what people said who compared its images, in words; empty where nobody did.
    """

    parameters: str
    speedup: float
    error: float | None
    timed: bool
    loss: float
    low: float
    high: float
    within: bool
    used: dict[str, float]
    prompts: int
    seconds: float
    memory: int | None
    means: dict[str, float]
    marks: list[str]
    warnings: list[str]
    images: list[int]
    worst: list[WorstImages]
    eyes: str


@dataclass(frozen=True)
class Doubt:
    """A point whose loss may be below the limit.

    Args:
        place: which of the series' points.
        more: about how many more prompts would tell; None: thousands.
        telling: the same in words.
        command: what evaluates it on so many, if there are.
    """

    place: int
    more: int | None
    telling: str
    command: str


@dataclass(frozen=True)
class Series:
    """The frontier of a cell, mildest candidate first.

    Args:
        bound: which of the points is the fastest within the limit.
        sure: which is the fastest that is clearly within it, and faster than the baseline pipeline.
        doubt: what is the fastest within the limit, where that is not clear.
        recipe: of what is clearly within it, as a file of its own; empty where nothing is.
        script: the id of a task whose script has the same parameters, if there is one.
        clear: whether the prompts tell that the bound keeps the limit.
        time_up: whether the search's time was up before it was done.
        is_fewer_steps: whether this is the fewer-steps baseline itself.
        reason: why there are no points, or no bound.
        evaluated, timed: how many candidates were.
        gains, influences: how it was searched.
    """

    name: str
    points: list[Point]
    bound: int | None
    sure: int | None
    doubt: Doubt | None
    recipe: str
    script: str | None
    clear: bool
    time_up: bool
    is_fewer_steps: bool
    reason: str
    evaluated: int
    timed: int
    gains: list[Gain]
    influences: list[Influence]

    @property
    def best(self) -> Point | None:
        """The fastest within the limit."""
        return None if self.bound is None else self.points[self.bound]

    @property
    def use(self) -> Point | None:
        """The fastest that is clearly within it."""
        return None if self.sure is None else self.points[self.sure]


@dataclass(frozen=True)
class Unmet:
    """A speedup that cannot be had."""

    accelerators: str
    required: str
    reason: str
    nearest: str


@dataclass(frozen=True)
class ConfigurationView:
    """All that is shown of one (model, scheduler, steps).

    Args:
        seconds: of the baseline pipeline, per image.
        width, height: of an image, in pixels.
        targets: the speedups that were asked for of every cell.
        prompts: those that images were kept of.
        texts: the prompts of the worst images, by number.
        baseline: the baseline pipeline's images in the album.
        unmet: of the targets and of the user's tasks.
    """

    configuration: Configuration
    slug: str
    seconds: float
    width: int
    height: int
    limit: float
    targets: list[float]
    prompts: list[str]
    texts: dict[int, str]
    baseline: list[int]
    series: list[Series]
    unmet: list[Unmet]


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Args:
        table: one row a task, as in summary.csv.
        serving: one row a script and batch size, as in serving.csv.
        steps: step counts compared, where there are several.
        scripts: sources, by task.
        failed: what could not be made or read: name, why, and where to look.
        misunderstood: sentences that are no task, each with what is wrong.
        date: of the newest record.
        worst: the images that metrics call the worst, with the baseline's.
    """

    platform: str
    date: str
    configurations: list[ConfigurationView]
    table: pd.DataFrame
    serving: pd.DataFrame
    steps: list[StepsView]
    scripts: dict[str, str]
    failed: list[tuple[str, str, str]]
    misunderstood: list[tuple[str, str]]
    trust: Trust
    album: Album = field(repr=False)
    worst: Album = field(repr=False)

    @property
    def names(self) -> list[str]:
        """The accelerators, as they first appear, and last the fewer-steps baseline."""
        first = [
            s.name for view in self.configurations for s in view.series if not s.is_fewer_steps
        ]
        fewer_steps = [
            s.name for view in self.configurations for s in view.series if s.is_fewer_steps
        ]
        return list(dict.fromkeys([*first, *fewer_steps]))

    @property
    def fewer_steps(self) -> list[str]:
        """Those of the names that are baselines of fewer steps'."""
        found = {s.name for view in self.configurations for s in view.series if s.is_fewer_steps}
        return [name for name in self.names if name in found]
