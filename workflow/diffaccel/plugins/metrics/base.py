"""What a metric of generated images is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""Shape (n, height, width, 3), values 0 to 255."""
Compute = Callable[[Images, Sequence[str], Images | None], list[float]]


class Metric(ABC):
    """One number an image. The instance ``PLUGIN`` of a file is the plugin."""

    name: ClassVar[str]
    better: ClassVar[Literal["higher", "lower"]]
    """Which of two values is the better one."""
    scale: ClassVar[str]
    """Range and unit of the values, in words."""
    needs_reference: ClassVar[bool]
    """Whether it compares with the baseline's image of the same prompt and seed."""
    title: ClassVar[str] = ""
    """How a task names it; the same letters as in its name."""
    paper: ClassVar[str] = ""
    """Where it is defined: authors, year, number at arXiv."""
    usual: ClassVar[bool] = False
    """Whether it is computed in every run; else where ``metrics`` of the configuration names it."""
    needs_source: ClassVar[bool] = False
    """Whether it has weights of its own, in a folder or on a hub."""
    source: ClassVar[str | None] = None
    """Where these are, unless the configuration says otherwise."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.startswith("_"):
            return  # what several share
        declared = ("name", "better", "scale", "needs_reference")
        if missing := [name for name in declared if not hasattr(cls, name)]:
            raise TypeError(f"{cls.__name__} does not say {', '.join(missing)}")
        cls.title = cls.title or cls.name.replace("_", "-").upper()

    @abstractmethod
    def prepare(self, source: str, device: str) -> Compute:
        """Loads what it needs, once, and gives the function of (images, prompts, references).

        Args:
            source: folder or hub id of its weights; of a usual metric, of the model's scorer.
            device: torch's name of the device.
        """

    def distance(self, mean: float) -> float:
        """How far images with this mean are from the baseline's: 0 for the same images. Of a metric
        that compares with them; by default 1 is the value of the same image where higher is better,
        and 0 where lower is."""
        return 1 - mean if self.better == "higher" else mean

    def refuses(self, prompts: Sequence[str], height: int, width: int) -> str:
        """Why it cannot score images of these prompts and of this size, in pixels; empty where it
        can. It is asked before any job starts."""
        return ""

    def adaptation(self, scorer: str, height: int, width: int, prompts: Sequence[str]) -> str:
        """What it does to images of this size, in pixels, and to these prompts because it cannot
        take them as they are; empty where it can. Of the metric that the loss is defined on it
        is part of what identifies a measurement."""
        return ""


def with_references(name: str, references: Images | None) -> Images:
    """The baseline's images, for a metric that cannot do without."""
    if references is None:
        raise ValueError(f"{name} compares with reference images; got none")
    return references
