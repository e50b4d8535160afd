"""PickScore: which image people would pick for a prompt (Kirstain et al., 2023,
arXiv:2305.01569)."""

from __future__ import annotations

from typing import Any

from diffaccel.plugins.metrics._preference import _Preference


class PickScore(_Preference):
    """A CLIP that was trained on the choices of Pick-a-Pic: the cosine of image and prompt, times
    the model's own scale, 100 in the published weights."""

    name = "pick_score"
    title = "PickScore"
    better = "higher"
    scale = "most images: 18 to 24"
    paper = "Kirstain et al., 2023, arXiv:2305.01569"
    source = "yuvalkirstain/PickScore_v1"

    def scaled(self, cosine: float, model: Any) -> float:
        return cosine * float(model.logit_scale.exp())


PLUGIN = PickScore()
