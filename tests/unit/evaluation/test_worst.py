"""Which images the metrics call the worst, and that they are kept of an answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from diffaccel.evaluation.gallery import Gallery
from diffaccel.evaluation.worst import in_order, worst
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.limits import read_limits
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)


def prompts(found: dict, name: str) -> list[int]:
    return [each.prompt for each in found[name]]


def test_the_worst_is_first_whichever_way_a_metric_goes() -> None:
    own = {"psnr": [40.0, 12.0, 30.0, 12.0], "lpips": [0.1, 0.0, 0.4, 0.2]}
    found = worst({}, own, 3)
    assert prompts(found, "psnr") == [1, 3, 2] and prompts(found, "lpips") == [2, 3, 0]
    assert found["psnr"][0].value == 12.0 and found["psnr"][0].baseline is None


def test_what_was_bad_before_is_no_fault() -> None:
    """By the CLIP score the worst is the image that lost the most, not the one with the least."""
    found = worst({"clip_score": [20.0, 35.0, 30.0]}, {"clip_score": [19.0, 28.0, 31.0]}, 2)
    assert prompts(found, "clip_score") == [1, 0]
    assert found["clip_score"][0].baseline == 35.0


def test_what_cannot_be_ranked_is_left_out() -> None:
    """A metric that is not known any more, and one that the baseline was not scored by."""
    assert worst({}, {"clip_score": [1.0], "gone": [1.0]}, 2) == {}
    assert worst({}, {}, 2) == {}


def test_limits_say_what_is_sorted_by() -> None:
    names = ["clip_score", "lpips", "psnr", "ssim"]
    assert in_order(names, ()) == ["psnr", "clip_score", "lpips", "ssim"]
    limits = read_limits({"lpips": "at most 0.05"})
    assert in_order(names, limits) == ["lpips", "psnr", "clip_score", "ssim"]
    assert in_order(["ssim"], limits) == ["ssim"]


def test_of_an_answer_the_first_and_the_worst_are_kept(tmp_path: Path) -> None:
    """They take the place of the smaller ones that the search kept."""
    baseline = store.baseline(CONFIGURATION)
    row = store.measurement(store.deepcache(3), 2.0, 0.001)
    psnr = [50.0, 50.0, 50.0, 50.0, 50.0, 9.0, 50.0, 8.0, 50.0, 7.0, 6.0, 50.0]
    row = dataclasses.replace(row, scores={"psnr": psnr})
    images = np.random.default_rng(0).integers(0, 255, (12, 600, 600, 3), dtype=np.uint8)
    gallery = Gallery.beside(tmp_path, baseline)
    gallery.keep(row.parameters, images)
    assert Image.open(gallery.paths(row.parameters)[0]).size == (512, 512)
    gallery.keep_answer(baseline, row, images, most=2)
    kept = gallery.paths(row.parameters)
    assert [*kept] == [0, 1, 2, 3, 5, 7, 9, 10]
    sizes = {number: Image.open(path).size[0] for number, path in kept.items()}
    assert sizes == {0: 600, 1: 600, 2: 512, 3: 512, 5: 600, 7: 600, 9: 600, 10: 600}
    assert not list(tmp_path.rglob("*.part"))
