"""The features of VGG16 (Simonyan and Zisserman, 2014, arXiv:1409.1556) that perceptual distances
compare, from weights in safetensors: torchvision, which most libraries take them from, has a
pickle."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.plugins.metrics._tensors import unit_tensor
from diffaccel.plugins.metrics._weights import folder_of, tensors_of
from diffaccel.plugins.metrics.base import Compute, Images, Metric, with_references

if TYPE_CHECKING:
    import torch

SOURCE = "timm/vgg16.tv_in1k"
"""torchvision's weights (IMAGENET1K_V1), as safetensors."""
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions between two poolings."""


def build() -> torch.nn.Sequential:
    """The untrained layers, numbered as in torchvision and timm."""
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for widths in STAGES:
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def vgg16(name: str, folder: Path) -> torch.nn.Sequential:
    """The trained layers.

    Args:
        name: of the metric, for messages.

    Raises:
        ModelError: the folder holds something else.
    """
    from diffaccel.plugins.models import ModelError

    start = "features."
    found = {
        key.removeprefix(start): value
        for key, value in tensors_of(folder).items()
        if key.startswith(start)
    }
    network = build()
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        raise ModelError(
            f"metric {name!r}: {folder} is no VGG16, such as {SOURCE}: {error}"
        ) from error
    return network.eval()


def ends_of_stages() -> list[bool]:
    """For each layer, whether what it gives is compared: the last one before each pooling."""
    return [
        number == 2 * len(widths) - 1 for widths in STAGES for number in range(2 * len(widths) + 1)
    ]


class _VggDistance(Metric):
    """A distance of two images by what VGG16 makes of them; a subclass says which."""

    better = "lower"
    needs_reference = True
    needs_source = True
    source = SOURCE

    @abstractmethod
    def between(
        self, network: torch.nn.Sequential, device: str
    ) -> Callable[[torch.Tensor, torch.Tensor], float]:
        """The function of two images, shape (3, height, width) each, values 0 to 1.

        Args:
            network: VGG16, on the device.
        """

    def prepare(self, source: str, device: str) -> Compute:
        import torch

        network = vgg16(self.name, folder_of(self.name, source)).to(device)
        distance = self.between(network, device)

        @torch.inference_mode()
        def compute(
            images: Images, prompts: Sequence[str], references: Images | None
        ) -> list[float]:
            both = images, with_references(self.name, references)
            pairs = zip(*(unit_tensor(each, device) for each in both), strict=True)
            return [distance(first, second) for first, second in pairs]

        return compute

    def refuses(self, prompts: Sequence[str], height: int, width: int) -> str:
        if min(height, width) >= 2 ** (len(STAGES) - 1):
            return ""
        return f"it needs images of at least 16 pixels a side; these have {height}x{width}"
