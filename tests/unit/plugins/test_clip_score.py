"""What the CLIP score does with captions that are too long and with images that are not square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.multimodal import CLIPScore
from transformers import CLIPProcessor

from diffaccel.evaluation.scores import check_scores
from diffaccel.plugins.metrics import METRICS, SCORE, Images
from diffaccel.plugins.metrics.base import Compute
from diffaccel.plugins.metrics.clip_score import load_clip
from diffaccel.plugins.models.mini.scenes import draw_scenes, sample_scenes

SCORER = str(Path(__file__).parents[3] / "resources/models/mini-clip")
TOKENS = 32
"""That the scorer takes of a caption."""
FILLER = " , a picture of a scene" * 10
"""As long as captions that users write, and words of the scorer's own vocabulary."""


@pytest.fixture(scope="module")
def score() -> Compute:
    return METRICS[SCORE].prepare(SCORER, "cpu")


@pytest.fixture(scope="module")
def scenes() -> tuple[Images, list[str]]:
    """Drawn scenes (8, 128, 128, 3), and their captions."""
    made = sample_scenes(8, 1, held_out=True)
    images = draw_scenes(made, 1).permute(0, 2, 3, 1).contiguous().numpy()
    return images, [scene.caption for scene in made]


def by_torchmetrics(images: Images, prompts: list[str]) -> list[float]:
    """Scores of torchmetrics' metric, with the scorer's own processor."""
    loaded = load_clip(SCORER)[0], CLIPProcessor.from_pretrained(SCORER)
    metric, found = CLIPScore(model_name_or_path=lambda: loaded), []
    with torch.inference_mode():
        for image, prompt in zip(images, prompts, strict=True):
            metric.reset()
            metric.update(torch.from_numpy(image).permute(2, 0, 1), prompt)
            found.append(float(metric.compute()))
    return found


def test_a_short_caption_of_a_square_image_scores_as_torchmetrics_has_it(
    score: Compute, scenes: tuple[Images, list[str]]
) -> None:
    images, captions = scenes
    assert score(images, captions, None) == by_torchmetrics(images, captions)
    assert METRICS[SCORE].adaptation(SCORER, 128, 128, captions) == ""


def test_two_long_captions_differ_by_their_beginning(
    score: Compute, scenes: tuple[Images, list[str]]
) -> None:
    image = np.repeat(scenes[0][:1], 2, axis=0)
    own, other = (caption + FILLER for caption in scenes[1][:2])
    first, second = score(image, [own, other], None)
    assert first > second + 1
    same = by_torchmetrics(image, [own, other])
    assert same[0] == same[1]  # why we cut them ourselves


def test_of_a_long_caption_the_scorer_reads_the_first_words(
    score: Compute, scenes: tuple[Images, list[str]]
) -> None:
    """Each word is one token; the start and the end take two."""
    words = ["red", "blue", "square", "ring"] * 12
    whole, cut = " ".join(words), " ".join(words[: TOKENS - 2])
    image = scenes[0][:1]
    assert score(image, [whole], None) == score(image, [cut], None)
    assert score(image, [cut], None) == by_torchmetrics(image, [cut])
    said = METRICS[SCORE].adaptation(SCORER, 128, 128, ["a red square", whole])
    assert said == "captions cut to 32 tokens with the end token"
    assert METRICS[SCORE].adaptation(SCORER, 128, 128, [cut]) == ""


def test_a_prompt_set_of_which_half_is_long_still_tells_images_apart(
    score: Compute, scenes: tuple[Images, list[str]]
) -> None:
    images, captions = scenes
    prompts = [caption + FILLER * (n % 2) for n, caption in enumerate(captions)]
    own = score(images, prompts, None)
    assert check_scores(own, score(images, prompts[-1:] + prompts[:-1], None)) is None


@pytest.mark.parametrize("turned", [False, True])
def test_the_margins_of_an_image_that_is_not_square_count(
    turned: bool, score: Compute, scenes: tuple[Images, list[str]]
) -> None:
    """CLIP's processor alone takes the middle: what is at the sides made no difference."""
    images, captions = scenes
    ground = np.repeat(images[0][:, :1], 64, axis=1)
    alone = np.concatenate([ground, images[0], ground], axis=1)
    beside = np.concatenate([images[1][:, :64], images[0], images[2][:, 64:]], axis=1)
    pair = np.stack([alone, beside])
    if turned:
        pair = np.ascontiguousarray(pair.transpose(0, 2, 1, 3))
    first, second = score(pair, captions[:1] * 2, None)
    assert abs(first - second) > 1
    before = by_torchmetrics(pair, captions[:1] * 2)
    assert before[0] == before[1]


@pytest.mark.parametrize(("height", "width"), [(96, 192), (192, 96), (640, 416)])
def test_an_image_is_resized_to_a_square(height: int, width: int, score: Compute) -> None:
    """As the processor resizes: antialiased, bicubic."""
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    square = Image.fromarray(image[0]).resize((128, 128), Image.Resampling.BICUBIC)
    captions = ["a red square above a blue ring on a gray ground"]
    (found,) = score(image, captions, None)
    assert found == pytest.approx(by_torchmetrics(np.asarray(square)[None], captions)[0], abs=0.02)
    said = METRICS[SCORE].adaptation(SCORER, height, width, captions)
    assert said == "images resized to a square"
