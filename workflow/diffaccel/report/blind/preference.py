"""How often the accelerated image is preferred, and how sure that is.

Each pair is one of three: the accelerated image is better or worse, or neither is preferred
(``same`` in records). The share is ``1/2 + (better - worse) / (2 pairs)``: a pair without a
preference counts half. 50% means that neither is preferred.

The interval is Tango's score interval of the difference between two paired proportions. Why not

- Wilson's interval of the share, ties counted half: it takes each half for a toss of a coin. If 32
  of 32 pairs have no preference, it still goes from 34% to 66%; Tango's goes from 45% to 55%.
- The sign test: it leaves the pairs without a preference out, and these are what tells that nobody
  prefers either. Where it is significant (by McNemar's statistic) is just where Tango's
  interval does not hold 50%.

Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17, 1998.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffaccel.evaluation.records import Baseline
from diffaccel.report.blind.records import Comparison, Verdict, journal_of

CONFIDENCE = 0.95
NEAR = 0.1
"""How far from 50% the share may be where no preference counts as found: the pairs for and against
differ by at most a fifth of all pairs. Our choice: 16 pairs without a preference are enough."""
SIGNS: Mapping[str, int] = {"better": 1, "same": 0, "worse": -1}


@dataclass(frozen=True)
class Preference:
    """What people said of the pairs of an answer.

    Args:
        better, same, worse: pairs whose accelerated image is so. One that several people judged
            counts once, by what more of them said, since what they say of the same two images is
            not independent.
        judges: how many people, those without a name as one.
        share: of the pairs in which the accelerated image is preferred, 0 to 1.
        low, high: its 95% interval.
    """

    better: int
    same: int
    worse: int
    judges: int
    share: float
    low: float
    high: float

    @classmethod
    def counted(cls, better: int, same: int, worse: int, judges: int = 1) -> Preference:
        """Raises ValueError where there are no pairs."""
        pairs = better + same + worse
        low, high = interval(better, worse, pairs)
        share = 0.5 + (better - worse) / (2 * pairs)
        return cls(better, same, worse, judges, share, 0.5 + low / 2, 0.5 + high / 2)

    @property
    def pairs(self) -> int:
        """How many were judged."""
        return self.better + self.same + self.worse

    @property
    def meaning(self) -> str:
        """What the interval tells, in words."""
        if self.high < 0.5:
            return "looks worse"
        if self.low > 0.5:
            return "looks better"
        if self.low >= 0.5 - NEAR and self.high <= 0.5 + NEAR:
            return "no preference found"
        return "too few pairs to tell"

    def __str__(self) -> str:
        pairs = f"{self.pairs} pair{'s' * (self.pairs != 1)}"
        return (
            f"{self.meaning}: preferred in {self.share:.0%} of {pairs} (95% interval "
            f"{self.low:.0%} to {self.high:.0%}); {self.better} better, {self.same} without "
            f"a preference, {self.worse} worse"
        )


def interval(better: int, worse: int, pairs: int) -> tuple[float, float]:
    """Tango's score interval of the difference between the shares of better and worse pairs.

    Returns:
        Two numbers from -1 to 1, at a confidence of 95%.

    Raises:
        ValueError: there are no pairs, or fewer than were better and worse.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if not pairs or better < 0 or worse < 0 or better + worse > pairs:
        raise ValueError(f"{better} better and {worse} worse of {pairs} pairs")
    quantile = float(ndtri((1 + CONFIDENCE) / 2))
    found = (better - worse) / pairs

    def beyond(difference: float) -> float:
        return abs(_score(better, worse, pairs, difference)) - quantile

    # At a difference of 1 or -1 the score is infinite, unless that is what was found.
    low = -1.0 if found == -1 else brentq(beyond, -1.0, found)
    high = 1.0 if found == 1 else brentq(beyond, found, 1.0)
    return float(low), float(high)


def _score(better: int, worse: int, pairs: int, difference: float) -> float:
    """The score statistic of a difference: how many of its standard errors what was found is away
    from it. The share of worse pairs is the likeliest with that difference."""
    off = better - worse - pairs * difference
    a = 2 * pairs
    b = (2 * pairs - better + worse) * difference - better - worse
    c = -worse * difference * (1 - difference)
    share = max(0.0, (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a))
    variance = pairs * (2 * share + difference * (1 - difference))
    if variance <= 1e-12:
        return 0.0 if abs(off) < 1e-9 else math.copysign(1e9, off)
    return off / math.sqrt(variance)


def preferences(journals: Path, baseline: Baseline) -> dict[str, Preference]:
    """What people said of each answer that was compared with a baseline, by the hash of its
    parameters."""
    said: dict[str, dict[int, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    judges: dict[str, set[str | None]] = defaultdict(set)
    for row in standing(journal_of(journals, baseline).rows()):
        said[row.answer][row.prompt].append(row.verdict)
        judges[row.answer].add(row.judge)
    return {
        answer: Preference.counted(**_counts(pairs.values()), judges=len(judges[answer]))
        for answer, pairs in said.items()
    }


def standing(rows: Iterable[Comparison]) -> list[Comparison]:
    """What still stands: of each person and pair the last, by date, unless it was undone. The lines
    of merged journals are not in the order of their dates."""
    last = {
        (row.judge, row.answer, row.prompt): row for row in sorted(rows, key=lambda each: each.date)
    }
    return [row for row in last.values() if row.verdict != "undone"]


def _counts(pairs: Iterable[list[Verdict]]) -> dict[str, int]:
    """Pairs by what more people said of them than its opposite."""
    totals = (sum(SIGNS[verdict] for verdict in several) for several in pairs)
    found = Counter("better" if each > 0 else "worse" if each < 0 else "same" for each in totals)
    return {name: found[name] for name in SIGNS}
