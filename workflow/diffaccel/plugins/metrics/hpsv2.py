"""HPSv2: how much people would like an image for its prompt (Wu et al., 2023, arXiv:2306.09341)."""

from __future__ import annotations

from typing import Any

from diffaccel.plugins.metrics._preference import _Preference


class Hpsv2(_Preference):
    """A CLIP that was trained on the choices of HPD v2: the cosine of image and prompt, as the
    authors' package gives it. No hub has its weights as safetensors."""

    name = "hpsv2"
    title = "HPSv2"
    better = "higher"
    scale = "most images: 0.2 to 0.35"
    paper = "Wu et al., 2023, arXiv:2306.09341"

    def scaled(self, cosine: float, model: Any) -> float:
        return cosine


PLUGIN = Hpsv2()
