"""DISTS: distance of structure and texture to the baseline's image (Ding et al., 2020,
arXiv:2004.07728)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.plugins.metrics._vgg import STAGES, _VggDistance, ends_of_stages

if TYPE_CHECKING:
    import torch

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of pixels from 0 to 1, by channel, as VGG16 was trained with."""
CHANNELS = (3, *(widths[-1] for widths in STAGES))
"""Of what is compared: the image itself, then each stage."""
EPSILON = 1e-6


class Dists(_VggDistance):
    """On VGG16 with the weights of the authors for each channel, which torchmetrics carries;
    torchmetrics itself would take VGG16 from torchvision."""

    name = "dists"
    scale = "0 to 1; 0 is the same image"
    paper = "Ding et al., 2020, arXiv:2004.07728"

    def between(
        self, network: torch.nn.Sequential, device: str
    ) -> Callable[[torch.Tensor, torch.Tensor], float]:
        import torch

        textures, structures = (
            [part.to(device) for part in each.flatten().split(CHANNELS)] for each in channels()
        )
        mean, spread = (torch.tensor(each, device=device).view(3, 1, 1) for each in (MEAN, SPREAD))

        def features(image: torch.Tensor) -> list[torch.Tensor]:
            found, passed = [image], ((image - mean) / spread)[None]
            for layer, ends in zip(network, ends_of_stages(), strict=True):
                passed = pooled(passed) if isinstance(layer, torch.nn.MaxPool2d) else layer(passed)
                if ends:
                    found.append(passed[0])
            return found

        def distance(first: torch.Tensor, second: torch.Tensor) -> float:
            alike = torch.zeros((), device=device)
            stages = zip(features(first), features(second), textures, structures, strict=True)
            for a, b, texture, structure in stages:
                x, y = a.mean((1, 2)), b.mean((1, 2))
                both = (a * b).mean((1, 2)) - x * y
                own = a.var((1, 2), correction=0) + b.var((1, 2), correction=0)
                means = (2 * x * y + EPSILON) / (x.square() + y.square() + EPSILON)
                alike = alike + (texture * means).sum()
                alike = alike + (structure * (2 * both + EPSILON) / (own + EPSILON)).sum()
            return float(1 - alike)

        return distance


def pooled(features: torch.Tensor) -> torch.Tensor:
    """Half the size, by the root of the mean square under a small window."""
    import torch

    side = torch.hann_window(5, periodic=False, device=features.device)[1:-1]
    window = torch.outer(side, side)
    count = features.shape[1]
    windows = (window / window.sum()).expand(count, 1, 3, 3)
    squares = torch.nn.functional.conv2d(features.square(), windows, None, 2, 1, groups=count)
    return (squares + 1e-12).sqrt()


def channels() -> tuple[torch.Tensor, torch.Tensor]:
    """What the means and the structure of each channel count, all together 1, by torchmetrics' copy
    of the authors' weights."""
    import torch
    import torchmetrics.functional.image as package

    path = Path(str(package.__file__)).parent / "dists_models" / "weights.pt"
    found = torch.load(path, map_location="cpu", weights_only=True)
    total = found["alpha"].sum() + found["beta"].sum()
    return found["alpha"].detach() / total, found["beta"].detach() / total


PLUGIN = Dists()
