"""The metrics beside the usual ones: each against what its upstream library computes itself, on
networks that we make."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchmetrics.functional.image import dists as torchmetrics_dists
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure as torchmetrics_ms_ssim,
)
from torchmetrics.functional.multimodal import clip_image_quality_assessment
from transformers import (
    BitImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Dinov2Config,
    Dinov2Model,
)

from diffaccel.plugins.metrics import METRICS, Images, MetricChoice, identities, prepared
from diffaccel.plugins.metrics._vgg import build
from diffaccel.plugins.metrics.clip_score import load_clip
from diffaccel.plugins.models import ModelError
from diffaccel.plugins.models.mini.scenes import alter, draw_scenes, sample_scenes

RESOURCES = Path("resources/models")
CLIP = str(RESOURCES / "mini-clip")
Scored = tuple[Images, list[str], Images]


@pytest.fixture(scope="module")
def scored() -> Scored:
    """Drawn scenes (3, 128, 128, 3), their captions, and the same scenes drawn elsewhere."""
    scenes = sample_scenes(3, 1, held_out=True)
    first, second = (
        draw_scenes(scenes, seed).permute(0, 2, 3, 1).contiguous().numpy() for seed in (1, 2)
    )
    return first, [scene.caption for scene in scenes], second


def values(name: str, source: str, scored: Scored) -> list[float]:
    return METRICS[name].prepare(source, "cpu")(*scored)


def tensor(images: Images) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def test_every_metric_gives_a_finite_number_an_image_and_says_how_to_read_it() -> None:
    assert {name for name, each in METRICS.items() if each.usual} == {"clip_score", "psnr", "ssim"}
    for metric in METRICS.values():
        assert metric.better in ("higher", "lower") and metric.scale
        assert metric.source is None or metric.needs_source


@pytest.mark.long
def test_ms_ssim_is_that_of_torchmetrics_where_the_image_is_large_enough(scored: Scored) -> None:
    images, captions, references = (
        np.repeat(np.repeat(each, 2, 1), 2, 2) if isinstance(each, np.ndarray) else each
        for each in scored
    )
    both = [tensor(each).double() / 255 for each in (images, references)]
    wanted = torchmetrics_ms_ssim(*both, data_range=1.0, reduction="none")
    found = values("ms_ssim", "", (images, captions, references))
    assert found == pytest.approx(wanted.tolist(), rel=1e-5)


@pytest.mark.parametrize("side", [11, 128])
def test_ms_ssim_of_small_images_takes_fewer_sizes(side: int, scored: Scored) -> None:
    images, captions, references = scored
    small = images[:, :side, :side], captions, references[:, :side, :side]
    assert all(0 <= value <= 1 for value in values("ms_ssim", "", small))
    same = values("ms_ssim", "", (small[0], captions, small[0]))
    assert same == pytest.approx([1, 1, 1], abs=1e-4)
    assert METRICS["ms_ssim"].refuses(captions, side, side) == ""
    assert "11 pixels a side" in METRICS["ms_ssim"].refuses(captions, 8, 64)


def test_dino_is_the_cosine_of_class_tokens(tmp_path: Path, scored: Scored) -> None:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
    )
    model = Dinov2Model(config).eval()
    processor = BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28})
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    images, _, references = scored
    with torch.inference_mode():
        first, second = (
            model(**processor(images=list(each), return_tensors="pt")).last_hidden_state[:, 0]
            for each in (images, references)
        )
    wanted = torch.nn.functional.cosine_similarity(first, second)
    assert values("dino", str(tmp_path), scored) == pytest.approx(wanted.tolist(), abs=1e-5)
    assert values("dino", str(tmp_path), (images, [], images)) == pytest.approx([1, 1, 1])


def test_preferences_are_what_transformers_gives(scored: Scored) -> None:
    images, captions, _ = scored
    model = CLIPModel.from_pretrained(CLIP, dtype=torch.float32).eval()
    inputs = CLIPProcessor.from_pretrained(CLIP)(
        text=captions, images=list(images), return_tensors="pt", padding=True
    )
    with torch.inference_mode():
        logits = model(**inputs).logits_per_image.diagonal()
        scale = float(model.logit_scale.exp())
    assert values("pick_score", CLIP, scored) == pytest.approx(logits.tolist(), rel=1e-4)
    assert values("hpsv2", CLIP, scored) == pytest.approx((logits / scale).tolist(), rel=1e-4)


def test_a_long_prompt_is_cut(scored: Scored) -> None:
    images, captions, references = scored
    long = [caption + " , a picture of a scene" * 20 for caption in captions]
    assert all(map(np.isfinite, values("pick_score", CLIP, (images, long, references))))


def test_clip_iqa_is_that_of_torchmetrics(scored: Scored) -> None:
    images = tensor(scored[0]).float()
    wanted = clip_image_quality_assessment(images, model_name_or_path=lambda: load_clip(CLIP))
    assert values("clip_iqa", CLIP, scored) == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, torch.nn.Sequential]:
    """A folder with a VGG16 as timm's lie on the hub, and the same untrained layers."""
    torch.manual_seed(0)
    layers, folder = build().eval(), tmp_path_factory.mktemp("vgg")
    tensors = {f"features.{name}": value for name, value in layers.state_dict().items()}
    save_file(tensors | {"head.fc.bias": torch.zeros(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "vgg16"}')
    return str(folder), layers


def test_lpips_is_that_of_torchmetrics(
    vgg: tuple[str, torch.nn.Sequential], scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes its layers from torchvision, where that is."""
    folder, layers = vgg
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: layers)
    small: Any = tuple(e[:, :64, :64] if isinstance(e, np.ndarray) else e for e in scored)
    both = [tensor(each).float() / 255 for each in (small[0], small[2])]
    with torch.inference_mode():
        wanted = torchmetrics_lpips._LPIPS(net="vgg")(*both, normalize=True).flatten()
    assert values("lpips", folder, small) == pytest.approx(wanted.tolist(), rel=1e-4)
    assert values("lpips", folder, (small[0], [], small[0])) == [0, 0, 0]


def test_dists_is_that_of_torchmetrics(
    vgg: tuple[str, torch.nn.Sequential], scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, layers = vgg
    monkeypatch.setattr(torchmetrics_dists, "_TORCHVISION_AVAILABLE", True)
    stands_for = {
        "vgg16": lambda weights: SimpleNamespace(features=layers),
        "VGG16_Weights": SimpleNamespace(DEFAULT=None),
    }
    for name, value in stands_for.items():
        monkeypatch.setattr(torchmetrics_dists, name, value, raising=False)
    small: Any = tuple(e[:, :64, :64] if isinstance(e, np.ndarray) else e for e in scored)
    both = [tensor(each).float() / 255 for each in (small[0], small[2])]
    wanted = torchmetrics_dists.DISTSNetwork()(*both)
    assert values("dists", folder, small) == pytest.approx(wanted.tolist(), abs=1e-5)
    assert values("dists", folder, (small[0], [], small[0])) == pytest.approx([0, 0, 0], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("dino", "/no/such", "metric 'dino': /no/such has no config.json"),
        ("lpips", CLIP, "metric 'lpips': resources/models/mini-clip is no VGG16"),
        ("scene_distance", CLIP, "metric 'scene_distance': resources/models/mini-clip"),
    ],
)
def test_another_folder_is_one_message(name: str, source: str, message: str) -> None:
    with pytest.raises(ModelError) as raised:
        METRICS[name].prepare(source, "cpu")
    assert str(raised.value).startswith(message)


def test_a_scene_is_right_where_the_image_shows_its_caption(scored: Scored) -> None:
    images, _, references = scored
    scenes = sample_scenes(3, 1, held_out=True)
    wrong = [alter(scene, random.Random(1)).caption for scene in scenes]
    assert values("scene_right", "", scored) == [1, 1, 1]
    assert values("scene_right", "", (images, wrong, references)) == [0, 0, 0]


def test_scene_right_reads_captions_of_its_grammar_alone() -> None:
    refuses = METRICS["scene_right"].refuses
    known = ["a large red square at the top of a gray ground"]
    assert refuses(known, 128, 128) == ""
    assert "128x128 pixels; these have 512x512" in refuses(known, 512, 512)
    assert "got 'a cat'" in refuses([*known, "a cat"], 128, 128)


def test_scene_distance_counts_what_changed(scored: Scored) -> None:
    scenes = sample_scenes(24, 3, held_out=True)
    altered = [alter(scene, random.Random(number)) for number, scene in enumerate(scenes)]
    images, others = (
        draw_scenes(each, 3).permute(0, 2, 3, 1).contiguous().numpy() for each in (scenes, altered)
    )
    noise = np.random.default_rng(0).normal(0, 4, images.shape)
    noisy = (images + noise).clip(0, 255).astype(np.uint8)
    source = str(METRICS["scene_distance"].source)
    same, drifted, changed = (
        values("scene_distance", source, (each, [], images)) for each in (images, noisy, others)
    )
    assert same == [0] * 24
    assert max(drifted) < 0.5 < np.median(changed) < 2
    both = values("scene_distance", source, (images, [], others))
    assert both == pytest.approx(changed)  # whichever is first


def test_what_is_not_usual_is_prepared_where_it_is_chosen() -> None:
    usual = {"clip_score", "psnr", "ssim"}
    assert set(prepared((), CLIP, "cpu")) == usual
    chosen = [MetricChoice("scene_right"), MetricChoice("pick_score", CLIP)]
    assert set(prepared(chosen, CLIP, "cpu")) == usual | {"scene_right", "pick_score"}


def test_what_names_a_metric_follows_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    chosen = [MetricChoice("dino", str(tmp_path))]
    before = identities(chosen)
    assert set(before) == {"dino"} and before == identities(chosen)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert identities(chosen) != before
