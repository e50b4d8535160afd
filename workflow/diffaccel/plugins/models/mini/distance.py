"""A perceptual distance of scenes: about how many attributes of one image another has changed.

The distance is small where an image only drifts, and 1 where one attribute of one object is another
one: its shape, its colour, its size or its place; or the ground. It is a small network that was
trained on drawn scenes by `train_distance`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffaccel.plugins.models.mini.scenes import Placement

MOVED = 30.0
"""Pixels that an object is moved by where its place counts as another one: from one slot to the
next."""
GROWN = 15.0
"""Pixels of width between a small object and a large one."""


@dataclass(frozen=True)
class Sizes:
    """Channels of what each image passes alone, and of what their difference passes."""

    alone: tuple[int, ...] = (24, 40, 56, 72)
    difference: tuple[int, ...] = (48, 32)


class SceneDistance(nn.Module):
    """The same image is at distance 0 from itself, and it does not matter which of two is first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        first, *others = sizes.alone
        layers: list[nn.Module] = [nn.Conv2d(3, first, 7, stride=4, padding=3), nn.ReLU()]
        for before, after, stride in zip(sizes.alone, others, (2, 1, 2), strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ReLU()]
        self.alone = nn.Sequential(*layers)
        pairs = zip((sizes.alone[-1], *sizes.difference), sizes.difference, strict=False)
        convolutions = [
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairs
        ]
        self.difference = nn.ModuleList(convolutions)
        self.sum = nn.Linear(sizes.difference[-1], 1, bias=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances, (N,), of images (N, 3, 128, 128) with values 0 to 255."""
        images = torch.cat([first, second]).float() / 127.5 - 1
        one, other = self.alone(images).chunk(2)
        passed = (one - other).abs()
        for layer in self.difference:
            passed = F.relu(layer(passed))
        # Without biases, so that no difference is distance 0.
        total: Tensor = self.sum(passed.mean((2, 3))).abs().squeeze(1)
        return total


def save(model: SceneDistance, folder: Path, metadata: dict[str, str]) -> None:
    """Writes the network in half precision, and what it was made by."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "scene-distance", **asdict(model.sizes)}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, "utf-8")
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata)
    path.chmod(0o644)


def load(folder: Path) -> SceneDistance:
    """The network of a folder, in single precision.

    Raises:
        KeyError, RuntimeError: the folder holds something else.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    sizes = Sizes(tuple(config["alone"]), tuple(config["difference"]))
    model = SceneDistance(sizes)
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name: value.float() for name, value in tensors.items()})
    return model.eval()


def attributes_changed(one: Placement, other: Placement) -> Tensor:
    """How many attributes differ between scenes with as many objects, (N,): shapes and colours
    count as a whole, sizes and places by how much."""
    boxes, kinds = other.boxes - one.boxes, other.kinds != one.kinds
    places = (boxes[..., :2].norm(dim=-1) / MOVED).clamp(max=1)
    sizes = (2 * boxes[..., 2].abs() / GROWN).clamp(max=1)
    there = one.boxes[..., 2] > 0
    objects = (kinds.float().sum(-1) + places + sizes) * there
    return objects.sum(-1) + (one.grounds != other.grounds).float()


def chosen(placement: Placement, rows: Sequence[int] | Tensor) -> Placement:
    """Some of the scenes."""
    return Placement(placement.boxes[rows], placement.kinds[rows], placement.grounds[rows])
