"""What a metric of generated images is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""Shape (n, height, width, 3), values 0 to 255."""
Compute = Callable[[Images, Sequence[str], Images | None], list[float]]


class Metric(ABC):
    """One number an image. The instance ``PLUGIN`` of a file is the plugin."""

    name: ClassVar[str]
    needs_reference: ClassVar[bool]
    """Whether it compares with the baseline's image of the same prompt and seed."""

    @abstractmethod
    def prepare(self, scorer: str, device: str) -> Compute:
        """Loads what it needs, once, and gives the function of (images, prompts, references).

        Args:
            scorer: folder or hub id of the CLIP model, for those that need one.
            device: torch's name of the device.
        """

    def adaptation(self, scorer: str, height: int, width: int, prompts: Sequence[str]) -> str:
        """What it does to images of this size, in pixels, and to these prompts because it cannot
        take them as they are; empty where it can. Of the metric that the loss is defined on it
        is part of what identifies a measurement."""
        return ""
