"""Captioned scenes drawn by code: the grammar, the split, and the drawing.

A scene holds one to three plain objects on a plain ground; its caption says everything about it
but the exact pixels. Three layouts exist::

    a large red square at the top of a gray ground
    a large red square above a small blue ring on a gray ground
    a red circle, a blue square and a green ring in a row on a white ground

Captions are split once and for all by a hash of what they mean ("A above B" and "B below A" mean
the same): training never sees a held-out scene, not even in other words.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

IMAGE_SIZE = 128
HELD_OUT_ONE_IN = 16

RGB = tuple[int, int, int]
COLOURS: dict[str, RGB] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (245, 225, 50),
    "green": (40, 160, 70),
    "blue": (40, 90, 220),
    "purple": (150, 50, 190),
}
GROUNDS: dict[str, RGB] = {
    "white": (240, 240, 240),
    "gray": (145, 145, 145),
    "black": (24, 24, 28),
    "beige": (222, 200, 165),
}
SHAPES = ("circle", "square", "triangle", "ring", "cross")
# Width of an object in pixels; objects of a row or column carry no size word.
SIZES: dict[str | None, tuple[float, float]] = {
    "small": (26.0, 31.0),
    "large": (41.0, 48.0),
    None: (26.0, 31.0),
}
SIZE_BORDER = 36.0
SLOTS: dict[str, tuple[float, float]] = {
    "in the center": (64.0, 64.0),
    "at the top": (64.0, 34.0),
    "at the bottom": (64.0, 94.0),
    "on the left": (34.0, 64.0),
    "on the right": (94.0, 64.0),
}
RELATIONS = ("above", "below", "left of", "right of")
ROWS = ("in a row", "in a column")
LAYOUTS: dict[int, tuple[str, ...]] = {1: tuple(SLOTS), 2: RELATIONS, 3: ROWS}
COUNT_WEIGHTS: dict[int, float] = {1: 0.15, 2: 0.6, 3: 0.25}

_OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}


@dataclass(frozen=True)
class Item:
    """One object: what it is, not where it is. `size` is None in rows and columns."""

    shape: str
    colour: str
    size: str | None

    @property
    def phrase(self) -> str:
        words = [self.size] if self.size else []
        words += [self.colour, self.shape]
        article = "an" if words[0][0] in "aeiou" else "a"
        return " ".join([article, *words])


@dataclass(frozen=True)
class Scene:
    """What a caption says. `layout` is one of `LAYOUTS[len(items)]`."""

    items: tuple[Item, ...]
    layout: str
    ground: str

    @property
    def caption(self) -> str:
        phrases = [item.phrase for item in self.items]
        if len(phrases) == 1:
            return f"{phrases[0]} {self.layout} of a {self.ground} ground"
        if len(phrases) == 2:
            return f"{phrases[0]} {self.layout} {phrases[1]} on a {self.ground} ground"
        listed = f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        return f"{listed} {self.layout} on a {self.ground} ground"

    @property
    def canonical(self) -> Scene:
        """The one scene that stands for all wordings of this one."""
        if self.layout in ("below", "right of"):
            return Scene(self.items[::-1], _OPPOSITE[self.layout], self.ground)
        return self

    @property
    def held_out(self) -> bool:
        digest = hashlib.sha256(self.canonical.caption.encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0


def grammar_words() -> tuple[str, ...]:
    """Every word a caption can hold, in a fixed order."""
    texts = [*SHAPES, *COLOURS, *GROUNDS, *SLOTS, *RELATIONS, *ROWS, "small", "large"]
    words = [word for text in texts for word in text.split()]
    return tuple(dict.fromkeys([*words, "a", "an", "and", "of", "on", "ground", ","]))


def _one_of(words: Sequence[str]) -> str:
    return "(" + "|".join(words) + ")"


_ITEM = rf"an? (?:(small|large) )?{_one_of(tuple(COLOURS))} {_one_of(SHAPES)}"
_CAPTION = re.compile(
    rf"{_ITEM}(?:, {_ITEM} and {_ITEM}| {_one_of(RELATIONS)} {_ITEM})?"
    rf"(?: {_one_of((*SLOTS, *ROWS))})? (?:of|on) a {_one_of(tuple(GROUNDS))} ground"
)


def parse_caption(caption: str) -> Scene:
    """Return the scene that a caption describes.

    Raises:
        ValueError: the caption is not one that `Scene.caption` could have written.
    """
    found = _CAPTION.fullmatch(caption.strip())
    if found:
        g = found.groups()
        triples = [g[0:3], g[3:6], g[6:9], g[10:13]]
        items = tuple(Item(shape=t[2], colour=t[1], size=t[0]) for t in triples if t[2])
        scene = Scene(items, g[9] or g[13] or "", g[14])
        sized = all((item.size is None) == (len(items) == 3) for item in items)
        if sized and scene.layout in LAYOUTS[len(items)] and scene.caption == caption.strip():
            return scene
    raise ValueError(
        f"not a caption of the scene grammar: {caption!r}; "
        "expected e.g. 'a large red square above a small blue ring on a gray ground'"
    )


def random_scene(rng: random.Random, count: int | None = None) -> Scene:
    """Draw one scene of the grammar; no two of its objects share both colour and shape."""
    n = count or rng.choices(list(COUNT_WEIGHTS), list(COUNT_WEIGHTS.values()))[0]
    kinds: set[tuple[str, str]] = set()
    items: list[Item] = []
    while len(items) < n:
        kind = (rng.choice(SHAPES), rng.choice(tuple(COLOURS)))
        if kind not in kinds:
            kinds.add(kind)
            size = rng.choice(("small", "large")) if n < 3 else None
            items.append(Item(*kind, size))
    return Scene(tuple(items), rng.choice(LAYOUTS[n]), rng.choice(tuple(GROUNDS)))


def sample_scenes(count: int, seed: int, *, held_out: bool) -> list[Scene]:
    """Draw `count` scenes of one side of the split; equal arguments give equal scenes."""
    rng = random.Random(f"scenes {seed} {held_out}")
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng)
        if scene.held_out == held_out:
            scenes.append(scene)
    return scenes


def alter(scene: Scene, rng: random.Random) -> Scene:
    """Return the scene with one attribute changed: the nearest wrong caption."""
    which = rng.randrange(len(scene.items))
    item = scene.items[which]
    attribute = rng.choice(("shape", "colour", "size", "layout", "ground"))
    if attribute == "size" and item.size is None:
        attribute = "layout"
    if attribute == "layout":
        options = [word for word in LAYOUTS[len(scene.items)] if word != scene.layout]
        return replace(scene, layout=rng.choice(options))
    if attribute == "ground":
        return replace(scene, ground=rng.choice([g for g in GROUNDS if g != scene.ground]))
    if attribute == "size":
        new = replace(item, size="small" if item.size == "large" else "large")
    elif attribute == "shape":
        new = replace(item, shape=rng.choice([s for s in SHAPES if s != item.shape]))
    else:
        new = replace(item, colour=rng.choice([c for c in COLOURS if c != item.colour]))
    return replace(scene, items=(*scene.items[:which], new, *scene.items[which + 1 :]))


@dataclass(frozen=True)
class Placement:
    """Where and how large the objects of N scenes are drawn.

    Attributes:
        boxes: (N, 3, 3) float32, centre x, centre y and half width in pixels; half width 0 where
            a scene has fewer than three objects.
        kinds: (N, 3, 2) int64, index into `SHAPES` and into `COLOURS`.
        grounds: (N,) int64, index into `GROUNDS`.
    """

    boxes: torch.Tensor
    kinds: torch.Tensor
    grounds: torch.Tensor


def _anchors(scene: Scene) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Centres of the scene's objects and how far (x, y) each may stray from them."""
    if scene.layout in SLOTS:
        return [SLOTS[scene.layout]], (7.0, 7.0)
    if scene.layout in ROWS:
        line = [(24.0, 64.0), (64.0, 64.0), (104.0, 64.0)]
        if scene.layout == "in a row":
            return line, (2.5, 14.0)
        return [(y, x) for x, y in line], (14.0, 2.5)
    first, second, stray = (64.0, 32.0), (64.0, 96.0), (20.0, 5.0)
    if scene.layout in ("left of", "right of"):
        first, second, stray = (32.0, 64.0), (96.0, 64.0), (5.0, 20.0)
    if scene.layout in ("below", "right of"):
        first, second = second, first
    return [first, second], stray


def place_scenes(scenes: Sequence[Scene], seed: int) -> Placement:
    """Choose positions and widths within what the captions allow."""
    rng = np.random.default_rng(seed)
    chance = rng.random((len(scenes), 3, 3)).astype(np.float32)
    boxes = np.zeros((len(scenes), 3, 3), np.float32)
    kinds = np.zeros((len(scenes), 3, 2), np.int64)
    colours, grounds = list(COLOURS), list(GROUNDS)
    for n, scene in enumerate(scenes):
        anchors, (stray_x, stray_y) = _anchors(scene)
        for k, (item, (x, y)) in enumerate(zip(scene.items, anchors, strict=True)):
            low, high = SIZES[item.size]
            u, v, w = chance[n, k]
            half = (low + (high - low) * w) / 2
            boxes[n, k] = (x + stray_x * (2 * u - 1), y + stray_y * (2 * v - 1), half)
            kinds[n, k] = (SHAPES.index(item.shape), colours.index(item.colour))
    ground = np.array([grounds.index(scene.ground) for scene in scenes], np.int64)
    return Placement(torch.from_numpy(boxes), torch.from_numpy(kinds), torch.from_numpy(ground))


def shape_distances(x: torch.Tensor, y: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Signed distances (about, in pixels; negative inside) to every shape of `SHAPES`.

    Args:
        x, y: offsets from the object's centre, any one shape; y points down.
        half: half the object's width, broadcastable to them.

    Returns:
        (len(SHAPES), ...) in the order of `SHAPES`.
    """
    ax, ay, radius = x.abs(), y.abs(), torch.hypot(x, y)
    bars = (torch.maximum(ax - half, ay - half / 3), torch.maximum(ax - half / 3, ay - half))
    return torch.stack(
        torch.broadcast_tensors(
            radius - half,
            torch.maximum(ax, ay) - half,
            torch.maximum(y - half, (2 * ax - y - half) / 5**0.5),
            torch.maximum(radius - half, half / 2 - radius),
            torch.minimum(*bars),
        )
    )


def draw(placement: Placement, device: torch.device | str = "cpu") -> torch.Tensor:
    """Draw scenes, antialiased and softly shaded.

    Returns:
        (N, 3, 128, 128) uint8 RGB on `device`.
    """
    device = torch.device(device)
    axis = torch.arange(IMAGE_SIZE, device=device, dtype=torch.float32)
    palette = torch.tensor(list(COLOURS.values()), device=device, dtype=torch.float32)
    grounds = torch.tensor(list(GROUNDS.values()), device=device, dtype=torch.float32)
    boxes, kinds = placement.boxes.to(device), placement.kinds.to(device)
    shade = (1.03 - 0.06 * axis / (IMAGE_SIZE - 1))[None, None, :, None]
    image = grounds[placement.grounds.to(device)][:, :, None, None] * shade
    image = image.expand(-1, -1, -1, IMAGE_SIZE)
    for k in range(boxes.shape[1]):
        cx, cy, half = (boxes[:, k, i, None, None] for i in range(3))
        x, y = axis[None, None, :] - cx, axis[None, :, None] - cy
        distances = shape_distances(x, y, half)
        chosen = kinds[:, k, 0].view(1, -1, 1, 1).expand(1, *distances.shape[1:])
        cover = (0.5 - distances.gather(0, chosen)[0]).clamp(0, 1) * (half > 0)
        light = (0.98 - 0.05 * (x + y) / half.clamp(min=1)).clamp(0.86, 1.08)
        colour = palette[kinds[:, k, 1]][:, :, None, None] * light[:, None]
        image = torch.lerp(image, colour, cover[:, None])
    return image.round().clamp(0, 255).to(torch.uint8)


def draw_scenes(
    scenes: Sequence[Scene], seed: int, device: torch.device | str = "cpu", chunk: int = 1024
) -> torch.Tensor:
    """Place and draw scenes in chunks; returns (N, 3, 128, 128) uint8 RGB on `device`."""
    p = place_scenes(scenes, seed)
    parts = [
        draw(
            Placement(p.boxes[i : i + chunk], p.kinds[i : i + chunk], p.grounds[i : i + chunk]),
            device,
        )
        for i in range(0, len(scenes), chunk)
    ]
    return torch.cat(parts)
