"""Looking at a loss again and again is wrong as seldom as promised, and clear where it can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from diffaccel.evaluation.sequential import FEWEST, InterimAnalyses, SkewedMean, clustered, positive

LIMIT = 0.02


def test_looks_begin_with_a_batch_and_double() -> None:
    def at(batch: int, usual: int, most: int) -> tuple[int, ...]:
        return InterimAnalyses(batch, usual, most, 0.95).at

    assert at(2, 16, 16) == (FEWEST, 16)
    assert at(8, 16, 64) == (8, 16, 32, 64)
    assert at(32, 32, 32) == (32,)
    assert at(4, 24, 100) == (8, 16, 24, 48, 96, 100)
    assert at(4, 4, 4) == (4,)  # fewer prompts than an interim analysis should have: all of them


def scores(loss: float, count: int, seed: int, spread: float = 1.5) -> tuple[list[float], ...]:
    """Of a baseline, and of something that loses so much on average."""
    random = np.random.default_rng(seed)
    plain = random.normal(75, 4, count)
    return plain.tolist(), (plain * (1 - loss) + random.normal(0, spread, count)).tolist()


def verdict(loss: float, seed: int, analyses: InterimAnalyses) -> bool | None:
    """What is said of a loss after as many prompts as it takes."""
    plain, accelerated = scores(loss, analyses.most, seed)
    for count in analyses.at:
        if (found := analyses.below(plain, accelerated[:count], LIMIT)) is not None:
            return found
    return None


def test_a_loss_at_the_limit_is_said_to_be_clear_of_it_as_seldom_as_was_promised() -> None:
    """1000 candidates at the worst place, the limit itself, each looked at four times: the binomial
    distribution's upper 99.9% for the promised 5% is 74."""
    analyses = InterimAnalyses(8, 32, 64, 0.95)
    wrong = sum(verdict(LIMIT, seed, analyses) is not None for seed in range(1000))
    assert 5 < wrong <= 74


@pytest.mark.parametrize(("loss", "answer"), [(0.0, True), (0.05, False)])
def test_what_is_far_from_the_limit_is_clear(loss: float, answer: bool) -> None:
    analyses = InterimAnalyses(8, 16, 64, 0.95)
    found = [verdict(loss, seed, analyses) for seed in range(200)]
    assert found.count(answer) > 180
    assert (not answer) not in found


def test_a_rare_break_is_not_overlooked_after_few_prompts() -> None:
    """One image in twenty breaks, so that the mean is beyond the limit: unseen is not below it."""
    analyses = InterimAnalyses(8, 32, 64, 0.95)
    plain = [75.0 + number % 3 for number in range(64)]
    broken = [score - 40 * (number % 20 == 19) for number, score in enumerate(plain)]
    assert analyses.below(plain, broken[:16], LIMIT) is None
    assert analyses.below(plain, broken, LIMIT) is not True


def test_equal_pairs_are_no_doubt() -> None:
    plain = [70.0, 80.0, 90.0]
    analyses = InterimAnalyses(1, 2, 3, 0.95)
    assert analyses.below(plain, plain, LIMIT) is True
    assert analyses.below(plain, [0.97 * score for score in plain], LIMIT) is False
    assert analyses.below([70.0], [70.0], LIMIT) is None


@pytest.mark.parametrize("hair", [-0.002, 0.002])
@pytest.mark.parametrize(("loss", "answer"), [(0.0025, True), (0.377, False)])
def test_what_hardly_varies_is_told_by_its_mean(loss: float, answer: bool, hair: float) -> None:
    """Far from the limit in standard deviations, a parabola in the mean turns back."""
    accelerated = [76 * (1 - loss) + hair * (number == 0) for number in range(32)]
    assert InterimAnalyses(8, 32, 32, 0.95).below([76.0] * 32, accelerated, LIMIT) is answer


SCORES = st.lists(st.tuples(st.floats(1, 100), st.floats(0, 100)), min_size=2, max_size=32)
ANALYSES = InterimAnalyses(2, 2, 32, 0.95)


@given(SCORES)
def test_what_is_said_agrees_with_the_means(pairs: list[tuple[float, float]]) -> None:
    plain, accelerated = map(list, zip(*pairs, strict=True))
    said = ANALYSES.below(plain, accelerated, LIMIT)
    loss = 1 - np.mean(accelerated) / np.mean(plain)
    assert said is None or said == (loss < LIMIT) or loss == pytest.approx(LIMIT)


@given(SCORES, st.integers(0, 31), st.floats(0, 1000))
def test_a_better_image_never_makes_a_candidate_worse(
    pairs: list[tuple[float, float]], which: int, by: float
) -> None:
    plain, accelerated = map(list, zip(*pairs, strict=True))
    before = ANALYSES.below(plain, accelerated, LIMIT)
    accelerated[which % len(pairs)] += by
    after = ANALYSES.below(plain, accelerated, LIMIT)
    assert not (before is True and after is False)


@given(
    st.lists(st.floats(-100, 100), min_size=3, max_size=40),
    st.floats(-50, 50),
)
def test_the_statistic_rises_with_the_mean(values: list[float], by: float) -> None:
    made = np.array(values)
    low, high = sorted([0.0, by])
    below, above = (SkewedMean.of(made + each).statistic for each in (low, high))
    assert below <= above or below == pytest.approx(above)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=40), st.sampled_from([0.8, 0.95]))
def test_the_interval_is_what_the_test_does_not_tell(
    values: list[float], confidence: float
) -> None:
    made = np.array(values)
    assume(made.std() > 1e-3)
    error, freedom = 1 - confidence, len(values) - 1
    for limit, inward in zip(SkewedMean.of(made).interval(confidence), (1, -1), strict=True):
        near = inward * 1e-3 * made.std()
        inside, outside = (SkewedMean.of(made - limit - step) for step in (near, -near))
        assert positive(inside.statistic, freedom, error) is None
        assert positive(outside.statistic, freedom, error) is (inward > 0)


def test_images_of_one_prompt_are_one_observation() -> None:
    """Four prompts with eight seeds each are no 32 independent images."""
    random = np.random.default_rng(0)
    said: dict[bool, list[bool | None]] = {True: [], False: []}
    for _ in range(200):
        prompts = [f"prompt {number % 4}" for number in range(32)]
        own = dict(zip(dict.fromkeys(prompts), random.normal(0, 3, 4), strict=True))
        plain = np.full(32, 75.0)
        lost = 75 * (1 - LIMIT) + np.array([own[each] for each in prompts])
        for known in said:
            analyses = InterimAnalyses(32, 32, 32, 0.95, tuple(prompts) if known else ())
            said[known].append(analyses.below(plain.tolist(), lost.tolist(), LIMIT))
    wrong = {known: np.mean([each is not None for each in every]) for known, every in said.items()}
    assert wrong[True] < 0.1 < 0.5 < wrong[False]


def test_clusters_keep_the_mean() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0])
    kept = clustered(values, ["a", "b", "a", "c"])
    assert kept.mean() == pytest.approx(values.mean()) and len(kept) == 3
    assert clustered(values, ["a", "b", "c", "d"]).tolist() == values.tolist()
