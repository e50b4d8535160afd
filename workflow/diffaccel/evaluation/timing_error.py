"""How far the median of a timing's pairs is off, as the pairs themselves tell it.

The error is a multiple of half their interquartile range. For many pairs of normal noise that is
1.86 / sqrt(n): half the range is 0.67 standard deviations, and a median's error 1.25 times a
mean's. Few pairs span less of their distribution, and have factors of their own: ``python -m
benchmarks.timings`` shows how good these are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

FEW = {
    2: (3.53, 1.0),
    3: (2.77, 2.0),
    4: (2.31, 2.0),
    5: (2.45, 1.7),
    6: (2.16, 2.6),
    7: (2.21, 3.2),
    8: (2.06, 3.4),
}
"""By number of values: factor of the error, times sqrt(n), and degrees of freedom, which say how
well the error itself is known: those of a chi distribution that varies as much."""
MANY = (1.86, 1.9, 0.4)
"""Of n values: the factor is the first + the second / n, and there are the third * n degrees."""


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the median of normally distributed values; infinite for a single one."""
    count = len(values)
    if count == 1:
        return math.inf
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    factor = FEW[count][0] if count in FEW else MANY[0] + MANY[1] / count
    return factor * (high - low) / 2 / math.sqrt(count)


def freedom(count: int) -> float:
    """Degrees of freedom of such an error."""
    return FEW[count][1] if count in FEW else MANY[2] * count
