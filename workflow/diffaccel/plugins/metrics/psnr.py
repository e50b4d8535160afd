"""Peak signal-to-noise ratio to the baseline's image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffaccel.plugins.metrics.base import Compute, Images, Metric

SAME = 100.0
"""Written where two images are identical, for which the ratio is infinite."""


class Psnr(Metric):
    """In decibels over all pixels and channels; identical images count as 100 dB."""

    name = "psnr"
    needs_reference = True

    def prepare(self, scorer: str, device: str) -> Compute:
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            if references is None:
                raise ValueError("psnr compares with reference images; got none")
            error = (images.astype(np.float64) - references) / 255
            mse = (error**2).mean(axis=(1, 2, 3))
            return [SAME if m == 0 else min(SAME, float(-10 * np.log10(m))) for m in mse]

        return compute


PLUGIN = Psnr()
