"""A call's time is taken apart into what its steps take, and put together again."""

from __future__ import annotations

import pytest

from benchmarks import few_steps
from benchmarks.gpu.data import read_speeds


def test_the_page_is_made_from_the_data() -> None:
    text = few_steps.PAGE.read_text(encoding="utf-8")
    assert text == few_steps.page(), "run `make pages`"


@pytest.mark.parametrize("model", few_steps.MODELS)
def test_recorded_calls_are_the_sum_of_their_steps(model: str) -> None:
    records = [each for each in read_speeds(few_steps.DATA) if each.configuration.model == model]
    found = few_steps.parts(records)
    assert found.error < 0.02
    assert 0 < found.cached < found.full < found.rest


def test_a_cache_cannot_save_what_is_no_step() -> None:
    parts = few_steps.Parts(rest=1.0, full=0.5, cached=0.1, error=0.0)
    assert parts.seconds(4, 1, True) == pytest.approx(3.0)
    assert parts.seconds(4, 2, True) == pytest.approx(1 + 2 * 0.5 + 2 * 0.1)
    assert parts.seconds(5, 2, True) == pytest.approx(1 + 3 * 0.5 + 2 * 0.1)
    assert parts.seconds(4, 4, False) == pytest.approx(1 + 0.5 * (0.5 + 3 * 0.1))
    assert parts.seconds(1, 8, True) == parts.seconds(1, 1, True)
