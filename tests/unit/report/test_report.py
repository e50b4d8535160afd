"""What the end of a run says, in numbers."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from diffaccel.report.table import share_interval


@pytest.mark.parametrize(("hits", "count"), [(13, 14), (0, 5), (5, 5), (1, 2), (480, 510)])
def test_the_interval_of_a_share_is_wilsons(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert share_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-4)
