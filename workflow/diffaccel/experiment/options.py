"""How much is measured, and how: what the configuration says of it, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol

from diffaccel.experiment.limits import Limit
from diffaccel.store.jsonio import UNSAID


class HasLoss(Protocol):
    """What has a loss with its interval over the prompts, and how much of other limits it uses."""

    @property
    def loss(self) -> float: ...

    @property
    def loss_interval(self) -> tuple[float, float]: ...

    @property
    def used(self) -> Mapping[str, tuple[float, float]]: ...


@dataclass(frozen=True)
class MeasureOptions:
    """How much is measured.

    Args:
        prompts: how many prompts a candidate is evaluated with, from the first of the file on;
            fewer where it is clear before that it loses too much.
        max_prompts: how many an answer gets while its loss is not clearly below the limit, if there
            are so many; None: no more than any other candidate.
        seed: of the first prompt; prompt i is generated with seed + i.
        pairs: interleaved timed pairs at least.
        max_pairs: pairs at most, while their spread is above ``spread``.
        spread: half the interquartile range of the pairs' ratios over their median that is
            good enough.
        confidence: of the interval of the loss.
        seeds: images of each prompt, each with another seed; None: one.
    """

    prompts: int = 16
    max_prompts: int | None = None
    seed: int = 0
    pairs: int = 3
    max_pairs: int = 6
    spread: float = 0.03
    confidence: float = 0.95
    seeds: Annotated[int | None, UNSAID] = None

    @property
    def images(self) -> int:
        """Images of ``prompts`` prompts."""
        return self.prompts * (self.seeds or 1)


@dataclass(frozen=True)
class SearchOptions:
    """How a cell is searched.

    Args:
        strategy: name of a file in `diffaccel.search.strategies`.
        space: ``grid``, the declared values of each parameter; ``coarse``, three of them in a
            combination, so that it can be measured as a whole; or ``full``, all that make sense.
        seed: for strategies that draw at random.
        loss_confidence: what must be below the limit: ``point``, the loss that was measured, or
            ``upper``, the upper end of its interval over the prompts.
        call_seconds: the longest that a call of a candidate may take, its preparation (compiling,
            say) with it, before it counts as hung; ten plain calls at least.
        budget: seconds that a search of one configuration may take; what is not decided then stays
            open. None: as long as it takes.
        limits: what a candidate must keep beside the loss limit.
    """

    strategy: str
    space: Literal["coarse", "grid", "full"] = "grid"
    seed: int = 0
    loss_confidence: Literal["point", "upper"] = "point"
    call_seconds: float = 600.0
    budget: float | None = None
    limits: Annotated[tuple[Limit, ...], UNSAID] = ()

    def decisive(self, measured: HasLoss, loss_limit: float) -> float:
        """What is compared with the loss limit: the loss, or what is used most of another limit, in
        units of the loss limit, where that is more."""
        loss = measured.loss_interval[1] if self.upper else measured.loss
        return max([loss, *(loss_limit * share for share in self.shares(measured).values())])

    def deciding(self, measured: HasLoss, loss_limit: float) -> str:
        """Which limit that is of: its words, or those of the loss limit."""
        decisive, shares = self.decisive(measured, loss_limit), self.shares(measured)
        words = (name for name, share in shares.items() if loss_limit * share >= decisive)
        return next(words, f"loss below {100 * loss_limit:g}%")

    def shares(self, measured: HasLoss) -> dict[str, float]:
        """How much is used of each of the limits, by its words; a measurement may tell of limits
        that others ask for, too."""
        words = [each.words for each in self.limits if each.words in measured.used]
        return {name: measured.used[name][self.upper] for name in words}

    @property
    def upper(self) -> bool:
        """Whether the upper ends of intervals decide."""
        return self.loss_confidence == "upper"

    def under(self, limits: tuple[Limit, ...] | None) -> SearchOptions:
        """The same with other limits beside that of the loss; None: with its own."""
        return self if limits is None else replace(self, limits=limits)


RULES = 2
"""Number of the rules that are judged by: what was judged by others is judged anew."""


@dataclass(frozen=True)
class JudgeOptions:
    """How judged code is run, and what it may take.

    Args:
        sandbox: false runs code with this user's rights: only for code that is trusted.
        margin: share by which the mean CLIP score may lie below the baseline pipeline's.
        memory_gib: of all processes of a script together.
        call_seconds: for one answer.
        load_seconds: for reading a script and loading its pipeline.
        max_pairs: rounds at most, while they do not tell whether it is as fast as was asked.
    """

    sandbox: bool = True
    margin: float = 0.1
    memory_gib: float = 16.0
    call_seconds: float = 600.0
    load_seconds: float = 900.0
    max_pairs: int = 48
