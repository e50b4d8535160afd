"""What a script and the baseline pipeline generated in turn, and what that says of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binomtest

from diffaccel.plugins.metrics.base import Images

SLOWED = 1.1
"""How many times as long the baseline pipeline may take while the script is there: no machine is
perfectly steady."""
ROUNDING = 1
"""By how much a value of an image, 0 to 255, may be another where the same is computed."""
CHANCE = 0.01
"""How often images that have nothing to do with the seeds may pass for some that have."""


@dataclass
class Generated:
    """What a script and the baseline pipeline generated of the same prompts and seeds, in turn.

    Args:
        prompts: one an image; each is there twice, one after the other, with two seeds.
        images, references: of the script and of the baseline pipeline, a batch each.
        pairs: seconds of the baseline pipeline and of the script, a round each.
        alone: seconds of the baseline pipeline before the script was there, and after.
    """

    prompts: list[str] = field(default_factory=list)
    images: list[Images] = field(default_factory=list)
    references: list[Images] = field(default_factory=list)
    pairs: list[tuple[float, float]] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    def same_images(self) -> bool:
        """Whether both generated the same, but for what rounding does."""
        pairs = zip(self.images, self.references, strict=True)
        return all(np.abs(a.astype(np.int16) - b).max() <= ROUNDING for a, b in pairs)

    def fair_pairs(self) -> list[tuple[float, float]]:
        """The pairs; where the script slowed the baseline pipeline down, that one no slower than it
        ever was alone: what a script does while it is not asked gains it nothing."""
        if self.slowed() <= SLOWED:
            return self.pairs
        return [(min(baseline, max(self.alone)), own) for baseline, own in self.pairs]

    def slowed(self) -> float:
        """How many times as long the baseline pipeline took beside the script, at least."""
        return statistics.median(baseline for baseline, _ in self.pairs) / max(self.alone)


def count_own(images: Images, references: Images) -> tuple[int, int]:
    """How many of the images are nearer to the reference of their own seed than to that of the same
    prompt and the other seed; and of how many that is known.

    Args:
        images, references: two of each prompt, one after the other, with two seeds.
    """
    made, known = images.astype(np.float32), references.astype(np.float32)
    pairs = len(made) // 2 * 2
    swapped = np.arange(pairs) ^ 1
    own = ((made[:pairs] - known[:pairs]) ** 2).mean(axis=(1, 2, 3))
    other = ((made[:pairs] - known[swapped]) ** 2).mean(axis=(1, 2, 3))
    return int(np.sum(own < other)), pairs


def seeds_matter(own: int, count: int) -> bool:
    """Whether so many of the images are nearer to their own seed's that chance does not explain it:
    of images that have nothing to do with the seeds, each is so with a probability of a half.

    An exact binomial test; where there are too few images for it to be clear, all must be.
    """
    return own == count or bool(binomtest(own, count, 0.5, alternative="greater").pvalue <= CHANCE)
