"""A few of the images that each candidate gave, and more of those of an answer, kept small for
people to look at.

Nothing is computed from them: scores are of the images as they were evaluated. They lie beside the
journals, which a candidate enters when it was evaluated, and are never made again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.evaluation.records import Baseline, Evaluation
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import digest

if TYPE_CHECKING:
    from PIL.Image import Image

    from diffaccel.plugins.metrics.base import Images

KEPT, SIDE, QUALITY = 4, 512, 90
"""Images of a candidate, of the first prompts; pixels of their longer side, at most; of WebP."""
ANSWERS, ANSWER_SIDE = 32, 1024
"""The same of an answer, when its script is verified."""
WORST = 4
"""Images of an answer that are kept besides: those that each metric calls the worst."""


def encoded(image: Image, side: int) -> bytes:
    """An image as it is kept: WebP, at most ``side`` pixels a side."""
    made = image.convert("RGB")
    made.thumbnail((side, side))
    file = io.BytesIO()
    made.save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def originals_of(baseline: Baseline, folder: Path) -> dict[int, Path]:
    """The baseline's images that are there, by the number of their prompt.

    Args:
        folder: of the platform.
    """
    images = folder / "baseline" / baseline.configuration.slug
    paths = {number: images / f"{number:03}.png" for number in range(len(baseline.prompts))}
    return {number: path for number, path in paths.items() if path.is_file()}


@dataclass(frozen=True)
class Gallery:
    """The kept images of the candidates of one configuration.

    Args:
        folder: belongs to one baseline.
    """

    folder: Path

    @classmethod
    def beside(cls, journals: Path, baseline: Baseline) -> Gallery:
        """That of a configuration, by the digest of all that determines its images."""
        return cls(journals / "images" / baseline.configuration.slug / baseline.digest)

    def keep(self, parameters: ParametersDict, images: Images) -> None:
        """Writes the first images of a candidate; ``images``: RGB, (prompts, height, width, 3)."""
        self._write(parameters, images, range(min(KEPT, len(images))), SIDE)

    def keep_answer(
        self, baseline: Baseline, evaluation: Evaluation, images: Images, most: int = ANSWERS
    ) -> None:
        """Writes images of an answer: of the first prompts, and those that a metric calls the
        worst. They replace smaller ones of the same prompts.

        Args:
            baseline: that it is compared with.
            evaluation: of these images.
            images: RGB, (prompts, height, width, 3).
            most: how many of the first prompts.
        """
        from diffaccel.evaluation.worst import worst  # the metrics come with it, and numpy

        first = range(min(most, len(images)))
        found = worst(baseline.scores, evaluation.scores, WORST)
        named = {each.prompt for several in found.values() for each in several}
        chosen = sorted({*first, *(number for number in named if number < len(images))})
        self._write(evaluation.parameters, images, chosen, ANSWER_SIDE)

    def _write(
        self, parameters: ParametersDict, images: Images, numbers: Iterable[int], side: int
    ) -> None:
        from PIL import Image

        folder = self.folder / digest(parameters)
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            path = folder / f"{number:03}.webp"
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            part.write_bytes(encoded(Image.fromarray(images[number]), side))
            part.replace(path)

    def paths(self, parameters: ParametersDict) -> dict[int, Path]:
        """The images of a candidate, by the number of their prompt; none where none were kept."""
        found = sorted((self.folder / digest(parameters)).glob("[0-9]*.webp"))
        return {int(path.stem): path for path in found if path.stem.isdecimal()}
