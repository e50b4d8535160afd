"""LPIPS: learned perceptual distance to the baseline's image (Zhang et al., 2018,
arXiv:1801.03924)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.plugins.metrics._vgg import STAGES, _VggDistance, ends_of_stages

if TYPE_CHECKING:
    import torch

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of pixels from -1 to 1, by channel, as the authors' code has them."""
EPSILON = 1e-8


class Lpips(_VggDistance):
    """The version on VGG16. The linear heads are those of the authors (0.1), which torchmetrics
    carries; torchmetrics itself would take VGG16 from torchvision. The version on AlexNet gives
    other values."""

    name = "lpips"
    scale = "0 is the same image; most pairs are below 1"
    paper = "Zhang et al., 2018, arXiv:1801.03924"

    def between(
        self, network: torch.nn.Sequential, device: str
    ) -> Callable[[torch.Tensor, torch.Tensor], float]:
        import torch

        weights = [each.to(device) for each in heads()]
        shift, scale = (torch.tensor(each, device=device).view(3, 1, 1) for each in (SHIFT, SCALE))

        def features(image: torch.Tensor) -> list[torch.Tensor]:
            found, passed = [], ((2 * image - 1 - shift) / scale)[None]
            for layer, ends in zip(network, ends_of_stages(), strict=True):
                passed = layer(passed)
                if ends:
                    length = (passed.square().sum(1, keepdim=True) + EPSILON).sqrt()
                    found.append(passed / length)
            return found

        def distance(first: torch.Tensor, second: torch.Tensor) -> float:
            both = zip(features(first), features(second), weights, strict=True)
            stages = [((a - b).square() * weight).sum(1).mean() for a, b, weight in both]
            return float(torch.stack(stages).sum())

        return distance


def heads() -> list[torch.Tensor]:
    """What each channel of each stage counts, by torchmetrics' copy of the authors' weights."""
    import torch
    import torchmetrics.functional.image as package

    path = Path(str(package.__file__)).parent / "lpips_models" / "vgg.pth"
    found = torch.load(path, map_location="cpu", weights_only=True)
    return [found[f"lin{number}.model.1.weight"] for number in range(len(STAGES))]


PLUGIN = Lpips()
