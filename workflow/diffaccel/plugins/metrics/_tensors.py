"""Images as networks take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffaccel.plugins.metrics.base import Images

if TYPE_CHECKING:
    import torch


def byte_tensor(images: Images, device: str) -> torch.Tensor:
    """Shape (n, 3, height, width), values 0 to 255."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).to(device)


def unit_tensor(images: Images, device: str) -> torch.Tensor:
    """The same with values 0 to 1, in single precision."""
    return byte_tensor(images, device).float() / 255
