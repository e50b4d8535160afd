"""The perceptual distance of scenes: what it aims at, and that it can be trained and kept."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from benchmarks.metrics.areas import area
from diffaccel.plugins.models.mini.distance import attributes_changed, load, save
from diffaccel.plugins.models.mini.scenes import Placement, place_scenes, sample_scenes
from diffaccel.plugins.models.mini.train_distance import TOY, auc, changed, measured, train


def test_what_counts_as_changed() -> None:
    scenes = sample_scenes(6, 0, held_out=False)
    one = place_scenes(scenes, 0)
    assert attributes_changed(one, one).tolist() == [0] * 6
    moved = Placement(one.boxes.clone(), one.kinds, one.grounds)
    moved.boxes[:, 0, 0] += 15
    assert attributes_changed(one, moved).tolist() == pytest.approx([0.5] * 6)
    ground = Placement(one.boxes, one.kinds, (one.grounds + 1) % 4)
    assert attributes_changed(one, ground).tolist() == [1] * 6
    for count in (1, 3):
        found = attributes_changed(one, changed(one, [count] * 6, random.Random(0)))
        assert all(0 < each <= count for each in found)


def test_a_network_is_trained_and_kept(tmp_path: Path) -> None:
    model = train(TOY)
    save(model, tmp_path, {"command": "none"})
    kept = load(tmp_path)
    first, second = torch.randint(0, 256, (2, 2, 3, 128, 128)).float()
    with torch.inference_mode():
        assert kept(first, second).tolist() == pytest.approx(kept(second, first).tolist())
        assert kept(first, first).tolist() == [0, 0]
        assert kept(first, second).tolist() == pytest.approx(model(first, second).tolist(), rel=0.1)
    assert set(measured(kept, 12)) >= {"pairs", "AUC by the scene reader"}


def test_areas() -> None:
    assert auc(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0])) == pytest.approx(0.875)
    assert area([2.0, 3.0, 1.0, 2.0], [True, True, False, False]) == pytest.approx(0.875)
