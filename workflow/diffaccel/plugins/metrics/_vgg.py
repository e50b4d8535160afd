"""The features of VGG16 (Simonyan and Zisserman, 2014, arXiv:1409.1556) that perceptual distances
compare, from weights in safetensors: torchvision, which most libraries take them from, has a
pickle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.plugins.metrics._weights import tensors_of

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
