"""Predicted losses: near what was evaluated; of a combination, near what its members tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffaccel.plugins.accelerators import PipelineSpec, combination
from diffaccel.plugins.space import Point, Space
from diffaccel.search.losses import WORST, LossModel, scaled

LIMIT = 0.02
FACTS = PipelineSpec("StableDiffusionPipeline", 20, (3, 3, 3, 2), (1, 2, 4, 8))
NAMES = ("deepcache", "tome")


def space(*names: str) -> Space:
    return combination(names).space(FACTS)


def loss(point: Point) -> float:
    """Distances in independent directions, one an accelerator."""
    parts = []
    if "deepcache.cache_interval" in point:
        interval, branch = point["deepcache.cache_interval"], point["deepcache.cache_branch_id"]
        parts.append(0.004 * (interval - 1) * (1 - branch / 11) ** 2)
    if "tome.ratio" in point:
        parts.append(0.05 * float(point["tome.ratio"]) ** 2)
    return math.hypot(*parts)


def grid(*names: str) -> list[Point]:
    return list(space(*names).points(grid=True))


def evaluated(points: list[Point], every: int) -> list[tuple[Point, float]]:
    return [(point, loss(point)) for point in points[::every]]


def truth(points: list[Point]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([scaled(loss(point), LIMIT) for point in points])


def test_a_loss_is_exact_near_the_limit_and_a_crash_among_the_worst() -> None:
    assert scaled(LIMIT / 100, LIMIT) == pytest.approx(0.01, rel=1e-3)
    assert scaled(math.inf, LIMIT) == scaled(1e9, LIMIT) == WORST
    assert scaled(-0.001, LIMIT) < 0


def test_predictions_are_near_what_was_evaluated_and_surer_there() -> None:
    points = grid("deepcache")
    known = evaluated(points, 5)
    model = LossModel(space("deepcache"), LIMIT, known)
    mean, std = model.predict(points)
    assert np.abs(mean - truth(points)).mean() < 0.25
    ignorant = LossModel(space("deepcache"), LIMIT, []).predict(points)[1]
    assert std.mean() < ignorant.mean() / 2
    at, _ = model.predict([point for point, _ in known])
    assert np.abs(at - [scaled(value, LIMIT) for _, value in known]).max() < 0.3


def test_members_tell_of_a_combination_before_anything_of_it_was_evaluated() -> None:
    parts = [LossModel(space(name), LIMIT, evaluated(grid(name), 3)) for name in NAMES]
    points = grid(*NAMES)[::7]
    mean, std = LossModel(space(*NAMES), LIMIT, [], parts).predict(points)
    error = np.abs(mean - truth(points))
    assert error.mean() < 0.2
    assert (error < 2 * std).mean() > 0.95


def test_what_was_evaluated_of_a_combination_corrects_its_members() -> None:
    """Here they repair each other: together they lose half of what each alone lets expect."""
    parts = [LossModel(space(name), LIMIT, evaluated(grid(name), 3)) for name in NAMES]
    points = grid(*NAMES)[::7]
    halved = [(point, loss(point) / 2) for point in points[::8]]
    right = np.array([scaled(loss(point) / 2, LIMIT) for point in points])
    before, _ = LossModel(space(*NAMES), LIMIT, [], parts).predict(points)
    after, _ = LossModel(space(*NAMES), LIMIT, halved, parts).predict(points)
    assert np.abs(after - right).mean() < np.abs(before - right).mean() / 2


def test_a_failed_member_makes_a_combination_unlikely() -> None:
    points = grid("deepcache")
    failed = LossModel(space("deepcache"), LIMIT, [(point, math.inf) for point in points[::3]])
    fine = LossModel(space("tome"), LIMIT, evaluated(grid("tome"), 3))
    mean, std = LossModel(space(*NAMES), LIMIT, [], [failed, fine]).predict(grid(*NAMES)[::50])
    assert (mean - std > scaled(LIMIT, LIMIT)).all()
