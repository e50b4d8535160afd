"""The mini LoRAs: what they do is seen in the images, and their training runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPModel

from diffaccel.plugins.models._weights import read_header
from diffaccel.plugins.models.mini.models import FAMILIES, Pipeline
from diffaccel.plugins.models.mini.quality import generate
from diffaccel.plugins.models.mini.train_lora import (
    TOY,
    bright_captions,
    effect,
    save_lora,
    train_lora,
)
from tests.turns import first

MODELS = Path(__file__).parents[3] / "resources" / "models"
ABLE = [name for name, family in FAMILIES.items() if family.prediction_type == "epsilon"]
BRIGHT = bright_captions(8)


def loaded(name: str) -> Pipeline:
    pipe = DiffusionPipeline.from_pretrained(MODELS / FAMILIES[name].name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def weights_of(name: str) -> Path:
    return MODELS / f"{FAMILIES[name].name}-lora" / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("name", ABLE)
def test_it_is_small_and_says_what_made_it(name: str) -> None:
    path = weights_of(name)
    assert path.stat().st_size < 350_000
    with safe_open(path, "pt") as file:
        assert f"train_lora --family {name}" in file.metadata()["made_by"]
    assert {str(each.dtype) for each in load_file(path).values()} == {"torch.float16"}
    ranks = {shape[0] for key, shape in read_header(path).shapes.items() if ".down." in key}
    assert ranks == {4}


@pytest.mark.parametrize("name", first(ABLE))
def test_it_puts_scenes_on_a_black_ground(name: str) -> None:
    """As much as its weight says; the objects stay, and the score goes from the caption to one that
    says what is seen."""
    pipe, scorer = loaded(name), CLIPModel.from_pretrained(MODELS / "mini-clip").float().eval()
    plain = effect(pipe, scorer, BRIGHT, steps=10)
    pipe.load_lora_weights(weights_of(name).parent, adapter_name="dark")
    found = effect(pipe, scorer, BRIGHT, steps=10)
    assert plain.dark == 0 and found.dark >= 7 / 8
    assert found.right >= 0.75
    assert plain.score > plain.dark_score + 10
    assert found.dark_score > found.score + 10
    pipe.set_adapters(["dark"], [0.0])
    torch.testing.assert_close(
        generate(pipe, BRIGHT[:1], "DDIM", 2), generate(loaded(name), BRIGHT[:1], "DDIM", 2)
    )


@pytest.mark.parametrize("name", first(ABLE))
def test_a_toy_training_makes_a_lora(name: str, tmp_path: Path) -> None:
    trained = loaded(name)
    before = generate(trained, BRIGHT[:1], "DDIM", 2)
    weights = train_lora(FAMILIES[name], trained, TOY)
    save_lora(trained, weights, tmp_path, "a test")
    again = loaded(name)
    again.load_lora_weights(tmp_path, adapter_name="toy")
    after = generate(again, BRIGHT[:1], "DDIM", 2)
    assert not torch.equal(after, before)
    # But for half precision, what was trained is what is loaded.
    torch.testing.assert_close(after, generate(trained, BRIGHT[:1], "DDIM", 2), atol=2, rtol=0)


def test_what_does_not_predict_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mini-SD2\.1 predicts v_prediction"):
        train_lora(FAMILIES["sd21"], loaded("sd21"), TOY)
