"""Peak signal-to-noise ratio to the baseline's image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffaccel.plugins.metrics.base import Compute, Images, Metric, with_references

SAME = 100.0
"""Written where two images are identical, for which the ratio is infinite."""


class Psnr(Metric):
    """In decibels over all pixels and channels; identical images count as 100 dB."""

    name = "psnr"
    better = "higher"
    scale = "decibels; 100 is the same image"
    needs_reference = True
    usual = True

    def distance(self, mean: float) -> float:
        """The root mean square error, as a share of the range."""
        return 0.0 if mean >= SAME else float(10 ** (-mean / 20))

    def prepare(self, source: str, device: str) -> Compute:
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            error = (images.astype(np.float64) - with_references("psnr", references)) / 255
            mse = (error**2).mean(axis=(1, 2, 3))
            return [SAME if m == 0 else min(SAME, float(-10 * np.log10(m))) for m in mse]

        return compute


PLUGIN = Psnr()
