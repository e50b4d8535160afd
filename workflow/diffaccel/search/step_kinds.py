"""What candidates make of the steps of a call, as numbers, and how alike their steps are expected
to be.

A step kind is what one accelerator makes of a step (`Accelerator.step_kinds`). A step of a
candidate has one step kind of each of its accelerators. Two steps with the same ones cost the same,
so that only distinct steps count. The logarithm of a step's relative cost sums over the
accelerators what their step kinds leave of it, plus what pairs of step kinds do to each other. All
of it is unknown: a Gaussian process whose prior each step kind declares, in which step kinds of one
label with near levels are alike.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from diffaccel.plugins.accelerators import ACCELERATORS, PipelineSpec
from diffaccel.plugins.accelerators.base import StepKind
from diffaccel.plugins.space import Parameters, Value
from diffaccel.search.gaussian import Floats, matern, squared_distances

Ints = NDArray[np.intp]

BASELINE = StepKind("baseline", relative_cost=1.0, spread=0.04)
"""What an accelerator makes of a step that is as in the baseline pipeline: nearly nothing."""
ALIKE = 0.75
"""Part of a step kind's variance that all step kinds of its label have in common."""
JOINT = 0.6
"""Spread of what two step kinds do to each other, of the root of the product of their spreads."""
TRANSFER = 0.98
"""Correlation of the log relative costs of a step and of the same one in transfer data."""

Part = tuple[str, tuple[tuple[str, Value], ...]]
Step = tuple[StepKind | None, ...]


@dataclass(frozen=True)
class Signature:
    """All that a candidate's time depends on.

    Args:
        members: short names of its accelerators, sorted.
        length: number of calls of the U-Net.
        steps: each distinct step, one step kind a member, with its share of the steps.
        transfer: whether it is transfer data: of another pipeline than the one whose speeds are
            predicted.
    """

    members: tuple[str, ...]
    length: int
    steps: tuple[tuple[Step, float], ...]
    transfer: bool

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.members, self.length, self.steps, self.transfer))

    def __hash__(self) -> int:
        return self._hash  # asked for often, and long to compute


@functools.lru_cache(maxsize=1 << 16)
def _signature(parts: tuple[Part, ...], pipeline: PipelineSpec, transfer: bool) -> Signature:
    parameters = {name: dict(values) for name, values in parts}
    columns = [
        ACCELERATORS[name].step_kinds(
            own, {other: part for other, part in parameters.items() if other != name}, pipeline
        )
        for name, own in parameters.items()
    ]
    counts = Counter(zip(*columns, strict=True)) if columns else {(): pipeline.calls}
    steps = sorted(((step, n / pipeline.calls) for step, n in counts.items()), key=repr)
    return Signature(tuple(parameters), pipeline.calls, tuple(steps), transfer)


def signature(
    parameters: Parameters, pipeline: PipelineSpec, *, transfer: bool = False
) -> Signature:
    """What a candidate makes of the steps of a pipeline call.

    Raises:
        UnknownNameError: it names an accelerator that does not exist.
    """
    parts = tuple((name, tuple(parameters[name].items())) for name in sorted(parameters))
    return _signature(parts, pipeline, transfer)


@dataclass(frozen=True)
class Kinds:
    """Step kinds of one accelerator, as arrays; mostly all that occur, of which the first stands
    for its absence.

    Args:
        label: (..., k).
        levels: (..., k, most levels), padded with 0.
        mean: expected logarithm of the relative cost, (..., k).
        spread: standard deviation of that, (..., k).
    """

    label: NDArray[np.str_]
    levels: Floats
    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, kinds: Sequence[StepKind | None]) -> Kinds:
        """As arrays; None is the accelerator's absence, which changes nothing."""
        known = [kind or StepKind("", (), 1.0, 0.0) for kind in kinds]
        longest = max(len(kind.levels) for kind in known)
        padded = [(*kind.levels, *(0.0,) * (longest - len(kind.levels))) for kind in known]
        return cls(
            np.array([kind.label for kind in known]),
            np.array(padded, dtype=float).reshape(len(known), longest),
            np.log([kind.relative_cost for kind in known]),
            np.array([kind.spread for kind in known]),
        )

    def take(self, index: Ints) -> Kinds:
        """Those at some places."""
        return Kinds(self.label[index], self.levels[index], self.mean[index], self.spread[index])

    def padded(self, width: int) -> Floats:
        """The levels, padded to so many."""
        missing = width - self.levels.shape[-1]
        return np.pad(self.levels, [(0, 0)] * (self.levels.ndim - 1) + [(0, missing)])


def _correlation(a: Kinds, b: Kinds) -> Floats:
    """Of the log relative costs of step kinds, (..., k of a, k of b)."""
    width = max(a.levels.shape[-1], b.levels.shape[-1])
    squared = squared_distances(a.padded(width), b.padded(width))
    alike = ALIKE + (1 - ALIKE) * matern(squared)
    return np.where(a.label[..., :, None] == b.label[..., None, :], alike, 0.0)


def _covariance(members: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Of the log relative costs of steps, from each accelerator's correlations of its step kinds
    and products of their spreads."""
    total: Floats = np.zeros(())
    effects = []
    for correlation, product in members:
        total = total + correlation * product
        effects.append(correlation * np.sqrt(product))
    for one, other in itertools.combinations(effects, 2):
        total = total + JOINT**2 * one * other
    return total


@dataclass(frozen=True, eq=False)
class Terms:
    """The distinct steps of n candidates, as numbers; S steps, M accelerators.

    Args:
        kinds: for each accelerator that is registered the step kinds that occur.
        steps: (S, M), which step kind of each; 0 where it is absent.
        place: (S,), the same for steps of one pipeline.
        index, share: (n, p), the distinct steps of each candidate and their share of its steps;
            padded with share 0.
        present: (n, M), 1 where a candidate has the accelerator.
        length: (n,), numbers of steps.
    """

    kinds: tuple[Kinds, ...]
    steps: Ints
    place: Ints
    index: Ints
    share: Floats
    present: Floats
    length: Floats

    @functools.cached_property
    def mean(self) -> Floats:
        """Expected log relative costs of the steps, (S,)."""
        each = [kinds.mean[step] for kinds, step in zip(self.kinds, self.steps.T, strict=True)]
        return np.sum(each, axis=0, dtype=float)

    @functools.cached_property
    def within(self) -> Floats:
        """Prior covariance of the log relative costs of each candidate's steps, (n, p, p)."""
        members = []
        for kinds, step in zip(self.kinds, self.steps.T, strict=True):
            if len(kinds.label) > 1:
                own = kinds.take(step[self.index])
                product = own.spread[:, :, None] * own.spread[:, None, :]
                members.append((_correlation(own, own), product))
        return np.broadcast_to(_covariance(members), (*self.index.shape, self.index.shape[1]))

    def on_steps(self, weights: Floats) -> csr_array:
        """Weights on each candidate's steps, (n, p), as a matrix (n, S): few of each row are not
        zero."""
        matrix = copy.copy(self._empty)
        matrix.data = weights.ravel()
        return matrix

    def weighted_sum(self, weights: csr_array, by: Floats) -> Floats:
        """Sums of such weights over the candidates, each times its own number, (S,)."""
        each = weights.data.reshape(self.index.shape) * by[:, None]
        sums: Floats = np.bincount(self.index.ravel(), each.ravel(), len(self.steps)).astype(float)
        return sums

    @functools.cached_property
    def _empty(self) -> csr_array:
        """Such a matrix before it has its weights."""
        n, p = self.index.shape
        ends = np.arange(0, n * p + 1, max(p, 1))[: n + 1]
        weights, shape = np.zeros(n * p), (n, len(self.steps))
        return csr_array((weights, self.index.ravel(), ends), shape=shape)


@functools.lru_cache(maxsize=8)
def terms_of(signatures: tuple[Signature, ...]) -> Terms:
    """Candidates as numbers, each in a row."""
    names = list(ACCELERATORS)
    kinds: list[dict[StepKind | None, int]] = [{None: 0} for _ in names]
    steps: dict[tuple[int, ...], int] = {}
    rows: list[list[tuple[int, float]]] = []
    for each in signatures:
        columns = [names.index(name) for name in each.members]
        row = []
        for step, share in each.steps:
            numbers = [0] * len(names)
            for m, kind in zip(columns, step, strict=True):
                numbers[m] = kinds[m].setdefault(kind or BASELINE, len(kinds[m]))
            place = -each.length if each.transfer else each.length
            row.append((steps.setdefault((*numbers, place), len(steps)), share))
        rows.append(row)
    n, width = len(rows), max(map(len, rows), default=1)
    known = np.array(list(steps), dtype=np.intp).reshape(len(steps), len(names) + 1)
    table = np.array([row + [(0, 0.0)] * (width - len(row)) for row in rows], dtype=float)
    table = table.reshape(n, width, 2)
    present = [[name in each.members for name in names] for each in signatures]
    return Terms(
        tuple(Kinds.of(list(each)) for each in kinds),
        known[:, :-1],
        known[:, -1],
        table[..., 0].astype(np.intp),
        table[..., 1],
        np.array(present, dtype=float).reshape(n, len(names)),
        np.array([each.length for each in signatures], dtype=float),
    )


@functools.lru_cache(maxsize=4)
def covariance_between(a: Terms, b: Terms) -> Floats:
    """Prior covariance of the log relative costs of steps, (S of a, S of b)."""
    members = []
    for m, (one, other) in enumerate(zip(a.kinds, b.kinds, strict=True)):
        if len(one.label) > 1 and len(other.label) > 1:
            at = np.ix_(a.steps[:, m], b.steps[:, m])
            product = np.multiply.outer(one.spread, other.spread)
            members.append((_correlation(one, other)[at], product[at]))
    return _covariance(members) * np.where(np.equal.outer(a.place, b.place), 1.0, TRANSFER)


def equal_signatures(a: Sequence[Signature], b: Sequence[Signature]) -> Floats:
    """1 where signatures are equal, (len(a), len(b))."""
    numbers = {each: i for i, each in enumerate(dict.fromkeys((*a, *b)))}
    of_a, of_b = ([numbers[each] for each in signatures] for signatures in (a, b))
    return np.equal.outer(of_a, of_b).astype(float)
