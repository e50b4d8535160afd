"""The families: published sizes, what is taken from them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffaccel import tiny
from diffaccel.config import ConfigError, load, model_spec
from diffaccel.models import FAMILIES
from diffaccel.records import ModelSpec

PUBLISHED = {
    "SD1.5": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "SD2.1": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "SDXL": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}
"""Parameters of each part of the released models."""


def spec_of(**entry: Any) -> ModelSpec:
    return model_spec(load({"models": [entry]}).models[0])


# Without weights


@pytest.mark.parametrize("family", FAMILIES)
def test_an_untrained_model_has_the_published_sizes(family: str) -> None:
    spec = spec_of(name="bare", family=family, untrained=True)
    pipe = FAMILIES[family].load(spec, "float16", "meta")
    counts = {
        name: sum(weights.numel() for weights in part.parameters())
        for name, part in pipe.components.items()
        if hasattr(part, "parameters")
    }
    assert counts == PUBLISHED[family]
    assert type(pipe).__name__ == FAMILIES[family].pipeline_class
    own = FAMILIES[family].known[0]
    assert pipe.unet.config.sample_size * 8 == own.height == own.width
    assert {str(part.dtype) for part in (pipe.unet, pipe.vae)} == {"torch.float16"}
    ids = pipe.tokenizer("Größe", padding="max_length").input_ids
    assert len(ids) == 77 and max(ids) < pipe.text_encoder.config.vocab_size
    assert not pipe.unet.training and not pipe.text_encoder.training


def test_an_untrained_model_is_told_by_its_spec() -> None:
    spec = spec_of(name="bare", family="SDXL", untrained=True, batch_size=2)
    assert (spec.untrained, spec.source, spec.vae, spec.batch_size) == (True, "", None, 2)
    assert spec_of(name="SD2.1", untrained=True).height == 768


def test_an_untrained_model_can_have_the_sizes_of_a_folder(tmp_path: Path) -> None:
    folder = tiny.save("SDXL", tmp_path)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    spec = spec_of(name="bare", family="SDXL", untrained=True, source=str(folder))
    pipe = FAMILIES["SDXL"].load(spec, "float16", "cpu")
    like = tiny.sdxl()
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        part, other = getattr(pipe, name), getattr(like, name)
        shapes = {key: value.shape for key, value in part.state_dict().items()}
        assert shapes == {key: value.shape for key, value in other.state_dict().items()}
        assert not part.training
        assert {str(value.dtype) for value in part.parameters()} == {"torch.float16"}
    assert pipe.tokenizer("a").input_ids == like.tokenizer("a").input_ids


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"family": "SDXL", "variant": "x", "vae": "y"}, "so leave out variant, vae"),
        ({"family": "SDXL", "source": "nowhere"}, "there is no folder 'nowhere'"),
        ({}, "so name the family: SD1.5, SD2.1, SDXL"),
    ],
)
def test_what_an_untrained_model_cannot_have(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"models": [{"name": "bare", "untrained": True, **entry}]})
    assert says in str(caught.value)
