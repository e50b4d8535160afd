"""Whether several limits are kept: each alone, and all of them together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffaccel.evaluation import limits
from diffaccel.evaluation.sequential import InterimAnalyses
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.limits import Limit, read_limit, read_limits
from diffaccel.experiment.options import SearchOptions
from diffaccel.experiment.prompts import PromptLine
from diffaccel.plugins.metrics import METRICS
from tests import store

COUNT = 32
BASELINE = {"clip_score": [80.0] * COUNT, "pick_score": [20.0] * COUNT}
ANALYSES = InterimAnalyses(8, COUNT, COUNT, 0.95)


def own(seed: int = 0, **means: float) -> dict[str, list[float]]:
    """Scores with these means and a little noise."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, mean in ({"clip_score": 80.0} | means).items():
        noise = rng.normal(0, 0.02 * abs(mean), COUNT)
        made[name] = [*(mean + noise - noise.mean())]
    return made


@pytest.mark.parametrize(
    ("words", "mean", "share"),
    [
        ("lpips at most 0.1", 0.05, 0.5),
        ("lpips at most 0.1", 0.2, 2.0),
        ("ssim at least 0.9", 0.95, 0.5),
        ("psnr at least 30", 36.0206, 0.5),  # half the error
        ("pick_score 10% loss", 19.0, 0.5),
        ("pick_score 10% loss", 21.0, -0.5),
        ("pick_score 2 less", 19.0, 0.5),
    ],
)
def test_how_much_of_a_limit_is_used(words: str, mean: float, share: float) -> None:
    metric, text = words.split(" ", 1)
    limit = read_limit(metric, text)
    at, upper = limits.used(limit, BASELINE, own(**{metric: mean}), 0.95)
    assert at == pytest.approx(share, abs=1e-4)
    assert upper > at
    kept = limits.margins(limit, BASELINE, own(**{metric: mean})).mean() > 0
    assert kept == (share < 1)


def test_the_same_image_uses_nothing_of_a_limit() -> None:
    for name, value in (("psnr", 100.0), ("ssim", 1.0), ("lpips", 0.0)):
        assert METRICS[name].distance(value) == pytest.approx(0)
        limit = Limit(name, "most" if name == "lpips" else "least", 0.5 if name != "psnr" else 30)
        at, upper = limits.used(limit, BASELINE, {name: [value] * COUNT}, 0.95)
        assert at == upper == pytest.approx(0)


def test_all_must_hold() -> None:
    asked = [read_limit("psnr", "at least 30"), read_limit("ssim", "at least 0.9")]

    def told(**means: float) -> bool | None:
        return limits.below(ANALYSES, asked, BASELINE, own(**means), 0.02)

    assert told(psnr=35, ssim=0.95) is True
    assert told(psnr=25, ssim=0.95) is False
    assert told(psnr=35, ssim=0.8) is False
    assert told(psnr=30.01, ssim=0.95) is None, "too near to tell"
    assert told(clip_score=70.0, psnr=35, ssim=0.95) is False
    assert limits.below(ANALYSES, [], BASELINE, own(), 0.02) is True
    assert limits.needed(ANALYSES, asked, BASELINE, own(psnr=30.1, ssim=0.95), 0.02)


def test_the_same_text_with_another_image_is_another_prompt() -> None:
    """Two images of one prompt are one observation, and so their interval is wider."""
    asked, scores = [read_limit("psnr", "at least 30")], own(psnr=35)

    def upper(*, images: bool) -> float:
        lines = [PromptLine("a", inputs=str(n) if images else None) for n in range(COUNT // 2)]
        texts = lines if images else [f"text {n}" for n in range(COUNT // 2)]
        plain = store.baseline(Configuration("mini-SD1.5", "DDIM", 20))
        baseline = replace(plain, prompts=[*texts, *texts], scores=BASELINE)
        row = store.measurement(store.deepcache(2), 2.0, 0.0)
        return limits.with_used(replace(row, scores=scores), baseline, asked).used[asked[0].words][
            1
        ]

    assert upper(images=True) == upper(images=False) > 0


def test_together_they_are_wrong_as_seldom_as_one_is_said_to_be() -> None:
    """Right at three limits, one of 500 candidates in 20 may be said to be beyond one of them."""
    asked = [read_limit("psnr", "at least 30"), read_limit("ssim", "at least 0.9")]
    wrong = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        scores = {
            "clip_score": [*(78.4 + rng.normal(0, 2, COUNT))],
            "psnr": [*(30 + rng.normal(0, 2, COUNT))],
            "ssim": [*(0.9 + rng.normal(0, 0.02, COUNT))],
        }
        wrong += limits.below(ANALYSES, asked, BASELINE, scores, 0.02) is False
    assert wrong <= 41  # the binomial distribution's upper 99.9% for 5% of 500


def test_the_loss_that_counts_is_the_largest_share() -> None:
    class Measured:
        loss, loss_interval = 0.01, (0.0, 0.015)
        used = {"psnr at least 30": (0.8, 0.9), "ssim at least 0.9": (0.3, 1.2)}  # noqa: RUF012

    same = read_limits("same")
    point, upper = (
        SearchOptions("frontier", loss_confidence=each, limits=same) for each in ("point", "upper")
    )
    assert point.decisive(Measured(), 0.02) == pytest.approx(0.016)
    assert point.deciding(Measured(), 0.02) == "psnr at least 30"
    assert upper.decisive(Measured(), 0.02) == pytest.approx(0.024)
    assert upper.deciding(Measured(), 0.02) == "ssim at least 0.9"
    assert point.decisive(Measured(), 0.001) == 0.01, "the loss, in units of a smaller limit"
    assert point.deciding(Measured(), 0.001) == "loss below 0.1%"
    assert point.under(()).decisive(Measured(), 0.02) == 0.01, "others' limits do not count"
    assert point.under(same[:1]).shares(Measured()) == {"psnr at least 30": 0.8}
