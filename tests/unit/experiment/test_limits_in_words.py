"""Limits in words: what is understood, and what is wrong is one line."""

from __future__ import annotations

import pytest

from diffaccel.experiment.limits import (
    PRESETS,
    Limit,
    limit_named,
    read_limit,
    read_limits,
    wrong_limits,
)


@pytest.mark.parametrize(
    ("metric", "text", "kind", "value", "words"),
    [
        ("lpips", "at most 0.05", "most", 0.05, "lpips at most 0.05"),
        ("lpips", "<= .05", "most", 0.05, "lpips at most 0.05"),
        ("psnr", "At least 35", "least", 35.0, "psnr at least 35"),
        ("ssim", ">=0.9", "least", 0.9, "ssim at least 0.9"),
        ("pick_score", "2% loss", "loss", 0.02, "pick_score 2% loss"),
        ("pick_score", "0.5 less", "drop", 0.5, "pick_score 0.5 less"),
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
        ("clip_score", "2% loss", "set `loss_limit` in place"),
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
    (line,) = wrong_limits({metric: text})
    assert line.startswith("limits: ") and says in line and "\n" not in line


def test_presets() -> None:
    assert read_limits("good") == ()
    assert {each.metric for each in read_limits("same")} == {"psnr", "ssim"}
    (line,) = wrong_limits("sane")
    assert "did you mean 'same'" in line and all(name in line for name in PRESETS)


def test_the_order_does_not_count() -> None:
    limits = {"ssim": "at least 0.9", "psnr": "at least 30"}
    assert read_limits(limits) == read_limits(dict(reversed(limits.items())))
    assert read_limits(limits)[0] == Limit("psnr", "least", 30.0)
