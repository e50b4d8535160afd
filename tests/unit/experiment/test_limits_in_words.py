"""Limits in words: what is understood, and what is wrong is one line."""

from __future__ import annotations

import pytest

from diffaccel.experiment.limits import (
    PRESETS,
    Limit,
    limit_named,
    limits_of,
    loss_limit_for,
    merged,
    read_limit,
    read_limits,
    wrong_limits,
)
from diffaccel.experiment.schema import Config

OWN = {"name": "mini-SDXL", "limits": {"ssim": "at least 0.8", "clip_score": "5% loss"}}


@pytest.mark.parametrize(
    ("metric", "text", "kind", "value", "words"),
    [
        ("lpips", "at most 0.05", "most", 0.05, "lpips at most 0.05"),
        ("lpips", "<= .05", "most", 0.05, "lpips at most 0.05"),
        ("psnr", "At least 35", "least", 35.0, "psnr at least 35"),
        ("ssim", ">=0.9", "least", 0.9, "ssim at least 0.9"),
        ("pick_score", "2% loss", "loss", 0.02, "pick_score 2% loss"),
        ("pick_score", "0.5 less", "drop", 0.5, "pick_score 0.5 less"),
        ("pick_score", "0.5 drop", "drop", 0.5, "pick_score 0.5 less"),
    ],
)
def test_limits_in_words(metric: str, text: str, kind: str, value: float, words: str) -> None:
    limit = read_limit(metric, text)
    assert (limit.metric, limit.kind, limit.value) == (metric, kind, value)
    assert limit.words == words and limit_named(words) == limit


@pytest.mark.parametrize(
    ("metric", "text", "says"),
    [
        ("lpip", "at most 1", "unknown metric 'lpip'; did you mean 'lpips'"),
        ("clip_score", "at least 70", "say `2% loss`, or set `loss_limit`"),
        ("psnr", "2% loss", "so say `at least`"),
        ("psnr", "at most 30", "higher is better: say `at least`"),
        ("lpips", "at least 0.1", "lower is better: say `at most`"),
        ("lpips", "at most 0", "only an identical image"),
        ("ssim", "at least 1", "only an identical image"),
        ("pick_score", "0% loss", "above 0 for `loss`"),
        ("pick_score", "200% loss", "below 100%"),
        ("pick_score", "a little", "not understood: 'a little'; write one of `2% loss`"),
    ],
)
def test_what_is_wrong_is_one_line(metric: str, text: str, says: str) -> None:
    (line,) = wrong_limits(Config(limits={metric: text}))
    assert line.startswith("limits: ") and says in line and "\n" not in line


def test_presets() -> None:
    assert read_limits("good") == ()
    assert {each.metric for each in read_limits("same")} == {"psnr", "ssim"}
    (line,) = wrong_limits(Config(limits="sane"))
    assert "did you mean 'same'" in line and all(name in line for name in PRESETS)


def test_the_order_does_not_count() -> None:
    limits = {"ssim": "at least 0.9", "psnr": "at least 30"}
    assert read_limits(limits) == read_limits(dict(reversed(limits.items())))
    assert read_limits(limits)[0] == Limit("psnr", "least", 30.0)


def test_a_model_has_limits_of_its_own_in_place_of_those_of_all() -> None:
    config = Config(models=["mini-SD1.5", OWN], limits="same", loss_limit=0.03)
    assert [each.words for each in limits_of(config, "mini-SDXL")] == ["ssim at least 0.8"]
    assert limits_of(config, "mini-SD1.5") == read_limits("same")
    assert loss_limit_for(config, "mini-SDXL") == 0.05
    assert loss_limit_for(config, "mini-SD1.5") == 0.03
    assert limits_of(Config(models=[OWN | {"limits": {}}], limits="same"), "mini-SDXL") == ()


def test_the_loss_limit_is_a_limit_too() -> None:
    config = Config(limits={"clip_score": "3% loss", "psnr": "at least 30"})
    assert loss_limit_for(config, "mini-SD1.5") == 0.03
    assert [each.metric for each in limits_of(config, "mini-SD1.5")] == ["psnr"]
    assert wrong_limits(config) == []
    # Whatever a file below it says.
    both = Config(limits={"clip_score": "3% loss"}, loss_limit=0.02)
    assert wrong_limits(both) == [] and loss_limit_for(both, "mini-SD1.5") == 0.03


def test_a_models_wrong_limit_names_the_model() -> None:
    (line,) = wrong_limits(Config(models=[OWN | {"limits": {"ssim": "at most 0.8"}}]))
    assert line.startswith("models: mini-SDXL: limits: ssim: 'at most 0.8'")


def test_a_limit_that_is_named_takes_the_place_of_one_of_its_metric() -> None:
    general, named = read_limits("same"), [read_limit("psnr", "at least 35")]
    assert [each.words for each in merged(general, named)] == [
        "psnr at least 35",
        "ssim at least 0.9",
    ]
