"""Looking at a loss again and again is wrong as seldom as promised, and clear where it can be."""

from __future__ import annotations

import numpy as np
import pytest

from diffaccel.sequential import FEWEST, Looks

LIMIT = 0.02


def test_looks_begin_with_a_batch_and_double() -> None:
    def at(batch: int, usual: int, most: int) -> tuple[int, ...]:
        return Looks(batch, usual, most, 0.95).at

    assert at(2, 16, 16) == (FEWEST, 16)
    assert at(8, 16, 64) == (8, 16, 32, 64)
    assert at(32, 32, 32) == (32,)
    assert at(4, 24, 100) == (8, 16, 24, 48, 96, 100)
    assert at(4, 4, 4) == (4,)  # fewer prompts than a look should have: all of them


def scores(loss: float, count: int, seed: int, spread: float = 1.5) -> tuple[list[float], ...]:
    """Of a baseline, and of something that loses so much on average."""
    random = np.random.default_rng(seed)
    plain = random.normal(75, 4, count)
    return plain.tolist(), (plain * (1 - loss) + random.normal(0, spread, count)).tolist()


def verdict(loss: float, seed: int, looks: Looks) -> bool | None:
    """What is said of a loss after as many prompts as it takes."""
    plain, accelerated = scores(loss, looks.most, seed)
    for count in looks.at:
        if (found := looks.below(plain, accelerated[:count], LIMIT)) is not None:
            return found
    return None


def test_a_loss_at_the_limit_is_said_to_be_clear_of_it_as_seldom_as_was_promised() -> None:
    """1000 settings at the worst place, the limit itself, each looked at four times: the binomial
    distribution's upper 99.9% for the promised 5% is 74."""
    looks = Looks(8, 32, 64, 0.95)
    wrong = sum(verdict(LIMIT, seed, looks) is not None for seed in range(1000))
    assert 5 < wrong <= 74


@pytest.mark.parametrize(("loss", "answer"), [(0.0, True), (0.05, False)])
def test_what_is_far_from_the_limit_is_clear(loss: float, answer: bool) -> None:
    looks = Looks(8, 16, 64, 0.95)
    found = [verdict(loss, seed, looks) for seed in range(200)]
    assert found.count(answer) > 180
    assert (not answer) not in found


def test_a_rare_break_is_not_overlooked_after_few_prompts() -> None:
    """One image in twenty breaks, so that the mean is beyond the limit: unseen is not below it."""
    looks = Looks(8, 32, 64, 0.95)
    plain = [75.0 + number % 3 for number in range(64)]
    broken = [score - 40 * (number % 20 == 19) for number, score in enumerate(plain)]
    assert looks.below(plain, broken[:16], LIMIT) is None
    assert looks.below(plain, broken, LIMIT) is not True


def test_equal_pairs_are_no_doubt() -> None:
    plain = [70.0, 80.0, 90.0]
    looks = Looks(1, 2, 3, 0.95)
    assert looks.below(plain, plain, LIMIT) is True
    assert looks.below(plain, [0.97 * score for score in plain], LIMIT) is False
    assert looks.below([70.0], [70.0], LIMIT) is None
