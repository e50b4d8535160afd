"""Reading scenes back from pixels with plain image processing: the judge of the mini models.

Nothing here is learned and nothing is shared with the scorer. The ground is the median colour of
the image's rim; what differs from it falls into connected components; each is named by the
overlap of its outline with the ideal shapes and by the nearest palette colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from diffaccel.plugins.models.mini.scenes import (
    COLOURS,
    GROUNDS,
    IMAGE_SIZE,
    SHAPES,
    SIZE_BORDER,
    SLOTS,
    Scene,
    shape_distances,
)

Array = npt.NDArray[np.float32]
RIM = 4  # pixels of border that show the ground
GROUND_DISTANCE = 45.0  # RGB distance from the ground from which a pixel belongs to an object
LEAST_AREA = 40  # pixels; smaller specks are ignored
LEAST_OVERLAP = 0.72  # intersection over union under which an outline is no known shape
LEAST_PURITY = 0.6  # share of an object's pixels that must show its colour
TEMPLATE = 32


@dataclass(frozen=True)
class Seen:
    """One object as read: names (None where unreadable), centre and width in pixels."""

    shape: str | None
    colour: str | None
    x: float
    y: float
    width: float

    @property
    def size(self) -> str:
        return "small" if self.width < SIZE_BORDER else "large"


@dataclass(frozen=True)
class Reading:
    """What an image shows."""

    ground: str
    objects: tuple[Seen, ...]


@dataclass(frozen=True)
class SceneResult:
    """Which parts of a caption an image gets right."""

    count: bool
    shapes: bool
    colours: bool
    sizes: bool
    slots: bool
    ground: bool

    @property
    def right(self) -> bool:
        return all((self.count, self.shapes, self.colours, self.sizes, self.slots, self.ground))


def _templates() -> npt.NDArray[np.bool_]:
    axis = (torch.arange(TEMPLATE) + 0.5) / TEMPLATE * 2 - 1
    distances = shape_distances(axis[None, :], axis[:, None], torch.tensor(1.0))
    return np.asarray((distances < 0).numpy())


def _label(masks: torch.Tensor) -> torch.Tensor:
    """Number the 8-connected components of (N, H, W) masks; the background is 0."""
    size = masks[0].numel()
    ids = torch.arange(1, size + 1, dtype=torch.float32, device=masks.device)
    solid = masks.float()
    labels = ids.view(1, *masks.shape[1:]) * solid
    while True:
        # Several hops between two comparisons: the comparison is what costs on a GPU.
        spread = labels
        for _ in range(8):
            spread = F.max_pool2d(spread[:, None], 3, 1, 1)[:, 0] * solid
        if torch.equal(spread, labels):
            return labels.to(torch.int32)
        labels = spread


def _nearest(pixels: Array, palette: dict[str, tuple[int, int, int]]) -> npt.NDArray[np.intp]:
    """Index of the palette colour nearest each of (N, 3) pixels."""
    colours = np.array(list(palette.values()), np.float32) * np.float32(0.98)
    return np.asarray(((pixels[:, None] - colours[None]) ** 2).sum(-1).argmin(1))


def _name_shape(mask: npt.NDArray[np.bool_], templates: npt.NDArray[np.bool_]) -> str | None:
    """Name the outline in a tight crop by its overlap with the ideal shapes."""
    height, width = mask.shape
    if max(height, width) > 1.35 * min(height, width):
        return None
    rows = ((np.arange(TEMPLATE) + 0.5) / TEMPLATE * height).astype(int)
    cols = ((np.arange(TEMPLATE) + 0.5) / TEMPLATE * width).astype(int)
    scaled = mask[rows][:, cols]
    overlap = (scaled & templates).sum((1, 2)) / (scaled | templates).sum((1, 2))
    best = int(overlap.argmax())
    return SHAPES[best] if overlap[best] >= LEAST_OVERLAP else None


def _read_object(
    image: Array, mask: npt.NDArray[np.bool_], templates: npt.NDArray[np.bool_]
) -> Seen:
    ys, xs = np.nonzero(mask)
    top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    nearest = np.bincount(_nearest(image[ys, xs], COLOURS), minlength=len(COLOURS))
    best = int(nearest.argmax())
    pure = nearest[best] >= LEAST_PURITY * len(ys)
    return Seen(
        shape=_name_shape(mask[top:bottom, left:right], templates),
        colour=list(COLOURS)[best] if pure else None,
        x=float(left + right - 1) / 2,
        y=float(top + bottom - 1) / 2,
        width=float(max(right - left, bottom - top)),
    )


def read_scenes(images: torch.Tensor) -> list[Reading]:
    """Read (N, 3, 128, 128) uint8 RGB images; see `Reading`.

    Raises:
        ValueError: the images have another shape or type.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != (3, IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(
            f"got {images.dtype} images of shape {tuple(images.shape)}; "
            f"expected torch.uint8 of shape (N, 3, {IMAGE_SIZE}, {IMAGE_SIZE})"
        )
    pixels = images.float()
    rim = torch.ones(IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool, device=images.device)
    rim[RIM:-RIM, RIM:-RIM] = False
    ground = pixels[:, :, rim].median(-1).values
    masks = (pixels - ground[:, :, None, None]).norm(dim=1) > GROUND_DISTANCE
    labels = _label(masks).cpu().numpy()
    values = pixels.permute(0, 2, 3, 1).cpu().numpy()
    names = [list(GROUNDS)[i] for i in _nearest(ground.cpu().numpy(), GROUNDS)]
    templates = _templates()
    readings = []
    for image, label, name in zip(values, labels, names, strict=True):
        ids, areas = np.unique(label[label > 0], return_counts=True)
        found = [
            _read_object(image, label == i, templates)
            for i, area in zip(ids, areas, strict=True)
            if area >= LEAST_AREA
        ]
        readings.append(Reading(name, tuple(found)))
    return readings


def read_scene(image: torch.Tensor) -> Reading:
    """Read one (3, 128, 128) uint8 RGB image."""
    return read_scenes(image[None])[0]


def _placed(layout: str, seen: Sequence[Seen]) -> bool:
    """Whether objects, in the caption's order, lie as the layout says."""
    if layout in SLOTS:
        x, y = SLOTS[layout]
        return abs(seen[0].x - x) < 15 and abs(seen[0].y - y) < 15
    dx = [b.x - a.x for a, b in pairwise(seen)]
    dy = [b.y - a.y for a, b in pairwise(seen)]
    if layout in ("above", "below", "in a column"):
        dx, dy = dy, dx
    if layout in ("below", "right of"):
        dx = [-step for step in dx]
    return all(step > max(16.0, abs(side)) for step, side in zip(dx, dy, strict=True))


def judge(scene: Scene, reading: Reading) -> SceneResult:
    """Compare a reading with a caption, matching objects in the order that agrees best."""
    ground = reading.ground == scene.ground
    if len(reading.objects) != len(scene.items):
        return SceneResult(False, False, False, False, False, ground)
    verdicts = []
    for order in permutations(reading.objects):
        pairs = list(zip(scene.items, order, strict=True))
        verdict = SceneResult(
            count=True,
            shapes=all(item.shape == seen.shape for item, seen in pairs),
            colours=all(item.colour == seen.colour for item, seen in pairs),
            sizes=all(item.size in (None, seen.size) for item, seen in pairs),
            slots=_placed(scene.layout, order),
            ground=ground,
        )
        agreement = sum(
            2 * (item.shape == seen.shape) + 2 * (item.colour == seen.colour)
            for item, seen in pairs
        )
        verdicts.append((agreement + verdict.slots, verdict))
    return max(verdicts, key=lambda entry: entry[0])[1]
