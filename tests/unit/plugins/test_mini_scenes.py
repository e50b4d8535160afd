"""Scenes of the mini models: grammar, split, drawing, and reading them back."""

from __future__ import annotations

import random

import pytest
import torch

from diffaccel.plugins.models.mini.reading import judge, read_scene, read_scenes
from diffaccel.plugins.models.mini.scenes import (
    LAYOUTS,
    Item,
    Scene,
    alter,
    draw_scenes,
    parse_caption,
    random_scene,
    sample_scenes,
)

RED_ABOVE_BLUE = Scene(
    (Item("square", "red", "large"), Item("ring", "blue", "small")), "above", "gray"
)


def test_a_caption_says_everything() -> None:
    assert RED_ABOVE_BLUE.caption == "a large red square above a small blue ring on a gray ground"
    for scene in sample_scenes(500, 1, held_out=False):
        assert parse_caption(scene.caption) == scene


@pytest.mark.parametrize(
    "caption",
    ["", "a red pony", "a red square above a small blue ring on a gray ground", "an red ring"],
)
def test_other_text_is_refused(caption: str) -> None:
    with pytest.raises(ValueError, match="not a caption"):
        parse_caption(caption)


def test_the_split_follows_the_meaning_of_a_caption() -> None:
    rng = random.Random(2)
    for _ in range(300):
        scene = random_scene(rng, 2)
        opposite = {"above": "below", "left of": "right of"}
        opposite |= {after: before for before, after in opposite.items()}
        reworded = Scene(scene.items[::-1], opposite[scene.layout], scene.ground)
        assert reworded.canonical == scene.canonical
        assert reworded.held_out == scene.held_out


def test_training_never_sees_a_held_out_scene() -> None:
    train = {scene.canonical for scene in sample_scenes(3000, 0, held_out=False)}
    test = {scene.canonical for scene in sample_scenes(1000, 0, held_out=True)}
    assert not train & test
    assert sample_scenes(20, 0, held_out=True) == sample_scenes(20, 0, held_out=True)


@pytest.mark.parametrize("seed", range(4))
def test_drawn_scenes_are_read_back(seed: int) -> None:
    scenes = sample_scenes(60, seed, held_out=bool(seed % 2))
    readings = read_scenes(draw_scenes(scenes, seed))
    wrong = [s.caption for s, r in zip(scenes, readings, strict=True) if not judge(s, r).right]
    assert wrong == []


def test_one_wrong_attribute_is_noticed() -> None:
    rng = random.Random(5)
    scenes = sample_scenes(60, 9, held_out=True)
    altered = [alter(scene, rng) for scene in scenes]
    readings = read_scenes(draw_scenes(scenes, 3))
    assert not any(judge(a, r).right for a, r in zip(altered, readings, strict=True))


def test_a_reading_names_what_is_there() -> None:
    reading = read_scene(draw_scenes([RED_ABOVE_BLUE], 0)[0])
    assert reading.ground == "gray"
    seen = sorted(reading.objects, key=lambda entry: entry.y)
    assert [(s.shape, s.colour, s.size) for s in seen] == [
        ("square", "red", "large"),
        ("ring", "blue", "small"),
    ]


def test_broken_images_are_not_right() -> None:
    scenes = sample_scenes(20, 4, held_out=True)
    images = draw_scenes(scenes, 0)
    noise = torch.randint(0, 256, images.shape, dtype=torch.uint8)
    erased = images.clone()
    erased[:, :, 30:98, 30:98] = images[:, :, :1, :1]
    for broken in (noise, erased):
        verdicts = [judge(s, r) for s, r in zip(scenes, read_scenes(broken), strict=True)]
        assert sum(verdict.right for verdict in verdicts) == 0


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"torch\.float32"):
        read_scenes(torch.zeros(1, 3, 128, 128))


def test_every_layout_is_drawn_inside_the_image() -> None:
    for count, layouts in LAYOUTS.items():
        size = None if count == 3 else "large"
        items = tuple(Item("square", colour, size) for colour in ("red", "green", "blue")[:count])
        for layout in layouts:
            image = draw_scenes([Scene(items, layout, "white")] * 8, 1)
            rim = torch.cat([image[:, :, 0], image[:, :, -1], image[..., 0], image[..., -1]], -1)
            assert rim.min() > 200, f"{layout}: an object is cut off"
