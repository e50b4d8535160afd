"""A few of the images that each candidate gave, kept small for people to look at.

Nothing is computed from them: scores are of the images as they were evaluated. They lie beside the
journals, which a candidate enters when it was evaluated, and are never made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.evaluation.records import Baseline
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import digest

if TYPE_CHECKING:
    from diffaccel.plugins.metrics.base import Images

KEPT, SIDE, QUALITY = 4, 512, 90
"""Images of a candidate, of the first prompts; pixels of their longer side, at most; of WebP."""


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
        from PIL import Image

        folder = self.folder / digest(parameters)
        folder.mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(images[:KEPT]):
            image = Image.fromarray(pixels)
            image.thumbnail((SIDE, SIDE))
            image.save(folder / f"{number:03}.webp", quality=QUALITY)

    def paths(self, parameters: ParametersDict) -> list[Path]:
        """The images of a candidate, by prompt; none where none were kept."""
        return sorted((self.folder / digest(parameters)).glob("[0-9]*.webp"))
