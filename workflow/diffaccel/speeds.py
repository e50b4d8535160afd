"""Predicts speeds: the time of a call is nearly a function of which steps run which blocks.

Each accelerator says what it makes of each step (`Accelerator.phases`). In units of the plain
call's time, a call then takes

    rest * exp(change of the rest) + (1 - rest) * mean over steps of exp(log share) + overheads

where ``rest`` is what is not in the steps (text encoder, decoder), and the log share of a step sums
over the accelerators what their phases leave of it, plus what pairs of phases do to each other. All
of it is unknown: a Gaussian process whose prior each phase declares, in which phases of one label
with near levels are alike. Timings determine it by Gauss-Newton steps to the most probable values;
the curvature there gives the standard deviations (Laplace's approximation), averaged over
assumptions on how noisy the clock and how rough the model is, each weighted by its evidence
(Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, sections 3.4 and 5.2).
Errors of timings follow Student's t distribution, so that an outlier counts less.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffaccel.accelerators import ACCELERATORS, PipelineFacts
from diffaccel.accelerators.base import Phase
from diffaccel.space import Setting, Value

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

REST = (0.06, 1.0)
"""Share of a plain call that is not in its steps: median, spread of its logit."""
CHANGE = 0.2
"""By how much an accelerator changes that: standard deviation of the logarithm."""
OVERHEAD = (0.008, 1.5)
"""What an accelerator adds, of a plain call's time: median, spread of the logarithm."""
ALIKE = 0.6
"""Share of a phase's variance that all phases of its label have in common."""
LENGTH = 0.4
"""Difference of levels over which the remainder changes."""
JOINT = 0.5
"""Spread of what two phases do to each other, of the root of the product of their spreads."""
FREEDOM = 4.0
"""Degrees of freedom of Student's t distribution of a timing's error."""
NOISES = (0.004, 0.008, 0.016, 0.032, 0.064)
ROUGH = (0.003, 0.01, 0.03)
"""Assumed standard deviations: of a timing, and of what the model does not know of a setting."""
ROUNDS = 12

Part = tuple[str, tuple[tuple[str, Value], ...]]
Step = tuple[Phase | None, ...]


@dataclass(frozen=True)
class Signature:
    """All that a setting's time depends on.

    Args:
        members: short names of its accelerators, sorted.
        steps: each kind of step, one phase a member, with its share of the steps.
    """

    members: tuple[str, ...]
    steps: tuple[tuple[Step, float], ...]


@functools.lru_cache(maxsize=1 << 16)
def _signature(parts: tuple[Part, ...], facts: PipelineFacts) -> Signature:
    setting = {name: dict(values) for name, values in parts}
    members = tuple(setting)
    columns = [
        ACCELERATORS[name].phases(
            own, {other: part for other, part in setting.items() if other != name}, facts
        )
        for name, own in setting.items()
    ]
    counts = Counter(zip(*columns, strict=True)) if columns else {(): facts.steps}
    return Signature(members, tuple((step, n / facts.steps) for step, n in counts.items()))


def signature(setting: Setting, facts: PipelineFacts) -> Signature:
    """What a setting makes of the steps of a pipeline call."""
    parts = tuple((name, tuple(setting[name].items())) for name in sorted(setting))
    return _signature(parts, facts)


@dataclass(frozen=True)
class _Phases:
    """The phases of one member that occur, as arrays; the first is None, of no spread."""

    label: NDArray[np.str_]
    levels: Floats  # (P, most levels), padded with 0
    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, phases: Sequence[Phase | None]) -> _Phases:
        plain = [phase or Phase("", (), 1.0, 0.0) for phase in phases]
        longest = max(len(phase.levels) for phase in plain)
        padded = [(*phase.levels, *(0.0,) * (longest - len(phase.levels))) for phase in plain]
        return cls(
            np.array([phase.label for phase in plain]),
            np.array(padded, dtype=float).reshape(len(plain), longest),
            np.log([phase.share for phase in plain]),
            np.array([phase.spread for phase in plain]),
        )

    def take(self, index: Ints) -> _Phases:
        return _Phases(self.label[index], self.levels[index], self.mean[index], self.spread[index])


def _correlation(a: _Phases, b: _Phases) -> Floats:
    """Of the log shares of phases; the arrays' leading dimensions broadcast."""
    common = min(a.levels.shape[-1], b.levels.shape[-1])
    distance = ((a.levels[..., :common] - b.levels[..., :common]) ** 2).sum(-1)
    for longer in (a, b):
        distance = distance + (longer.levels[..., common:] ** 2).sum(-1)
    smooth = ALIKE + (1 - ALIKE) * np.exp(-0.5 * distance / LENGTH**2)
    return np.where(a.label == b.label, smooth, 0.0)


def _covariance(correlations: Sequence[Floats], spreads: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Of the log shares of steps, from each member's correlations and spreads of its phases."""
    total: Floats = np.zeros(())
    effects = []
    for correlation, (a, b) in zip(correlations, spreads, strict=True):
        product = a * b
        total = total + correlation * product
        effects.append(correlation * np.sqrt(product))
    for one, other in itertools.combinations(effects, 2):
        total = total + JOINT**2 * one * other
    return total


@dataclass(frozen=True)
class _Terms:
    """The kinds of steps of several settings, as numbers; S kinds, M accelerators, n settings.

    Args:
        phases: for each accelerator that is registered the phases that occur.
        kinds: (S, M), which phase of each.
        index, share: (n, p), the kinds of each setting's steps and their share of them; padded
            with share 0.
        present: (n, M), 1 where a setting has the accelerator.
    """

    phases: tuple[_Phases, ...]
    kinds: Ints
    index: Ints
    share: Floats
    present: Floats

    @property
    def mean(self) -> Floats:
        """Expected log shares of the kinds of steps, (S,)."""
        each = [phases.mean[kind] for phases, kind in zip(self.phases, self.kinds.T, strict=True)]
        return np.sum(each, axis=0)

    def dense(self, weights: Floats) -> Floats:
        """Weights on the kinds of each setting's steps, (n, p), as a matrix (n, S)."""
        out = np.zeros((len(self.index), len(self.kinds)))
        np.add.at(out, (np.arange(len(self.index))[:, None], self.index), weights)
        return out

    @functools.cached_property
    def within(self) -> Floats:
        """Prior covariance of the log shares of each setting's steps, (n, p, p)."""
        picked = []
        for phases, kind in zip(self.phases, self.kinds.T, strict=True):
            if len(phases.label) > 1:
                at = kind[self.index]
                picked.append((phases.take(at[:, :, None]), phases.take(at[:, None, :])))
        found = _covariance(
            [_correlation(a, b) for a, b in picked], [(a.spread, b.spread) for a, b in picked]
        )
        return np.broadcast_to(found, (*self.index.shape, self.index.shape[1]))


def _between(a: _Terms, b: _Terms) -> Floats:
    """Prior covariance of the log shares of the kinds of steps, (S of a, S of b)."""
    correlations, spreads = [], []
    for m, (one, other) in enumerate(zip(a.phases, b.phases, strict=True)):
        if len(one.label) > 1 and len(other.label) > 1:
            table = _correlation(one.take(np.arange(len(one.label))[:, None]), other)
            i, j = a.kinds[:, m], b.kinds[:, m]
            correlations.append(table[i[:, None], j])
            spreads.append((one.spread[i][:, None], other.spread[j]))
    found = _covariance(correlations, spreads)
    return np.broadcast_to(found, (len(a.kinds), len(b.kinds)))


@functools.lru_cache(maxsize=16)
def _terms(signatures: tuple[Signature, ...]) -> _Terms:
    members = list(ACCELERATORS)
    phases: list[dict[Phase | None, int]] = [{None: 0} for _ in members]
    kinds: dict[tuple[int, ...], int] = {}
    rows: list[list[tuple[int, float]]] = []
    for each in signatures:
        places = [members.index(name) for name in each.members]
        row = []
        for step, share in each.steps:
            kind = [0] * len(members)
            for place, phase in zip(places, step, strict=True):
                kind[place] = phases[place].setdefault(phase, len(phases[place]))
            row.append((kinds.setdefault(tuple(kind), len(kinds)), share))
        rows.append(row)
    width = max(map(len, rows), default=1)
    table = np.array([row + [(0, 0.0)] * (width - len(row)) for row in rows], dtype=float)
    table = table.reshape(len(rows), width, 2)
    present = [[name in each.members for name in members] for each in signatures]
    return _Terms(
        tuple(_Phases.of(list(each)) for each in phases),
        np.array(list(kinds), dtype=np.intp).reshape(len(kinds), len(members)),
        table[..., 0].astype(np.intp),
        table[..., 1],
        np.array(present, dtype=float).reshape(len(rows), len(members)),
    )


def _priors() -> tuple[Floats, Floats]:
    """Means and variances of what is not about steps: the rest, its changes, the overheads."""
    m = len(ACCELERATORS)
    rest, spread = REST
    median, width = OVERHEAD
    means = np.array([np.log(rest / (1 - rest)), *[0.0] * m, *[np.log(median)] * m])
    return means, np.array([spread, *[CHANGE] * m, *[width] * m]) ** 2


def _speedups(terms: _Terms, common: Floats, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Log-speedups (n,) and their derivatives by ``common`` (n, C) and by each setting's kinds of
    steps (n, p)."""
    m = terms.present.shape[1]
    rest = 1 / (1 + np.exp(-common[0]))
    changed = rest * np.exp(terms.present @ common[1 : m + 1])
    overheads = terms.present * np.exp(common[m + 1 :])
    steps = terms.share * np.exp(shares[terms.index])
    time = changed + (1 - rest) * steps.sum(1) + overheads.sum(1)
    by_rest = (1 - rest) * (changed - rest * steps.sum(1))
    by_common = np.column_stack([by_rest, changed[:, None] * terms.present, overheads])
    return -np.log(time), -by_common / time[:, None], -(1 - rest) * steps / time[:, None]


@dataclass(frozen=True)
class _Timed:
    """What is given to a fit: log-speedups ``y`` of settings, and prior covariances of their kinds
    of steps and of their roughness (which is the same for equal signatures)."""

    signatures: tuple[Signature, ...]
    terms: _Terms
    y: Floats
    kinds: Floats
    same: Floats


@dataclass(frozen=True)
class _Fit:
    """The most probable values under one assumption.

    Args:
        noise, rough: the assumption.
        pulls: what multiplies the prior covariances of the common quantities, of the kinds of
            steps and of the roughness to give how far they are from their prior means.
        common, steps: derivatives of the timed log-speedups, (n, C) and (n, S).
        inverse: of the covariance of the timed log-speedups, (n, n).
        evidence: logarithm of the probability of what was timed.
    """

    noise: float
    rough: float
    pulls: tuple[Floats, Floats, Floats]
    common: Floats
    steps: Floats
    inverse: Floats
    evidence: float


def _fit(timed: _Timed, noise: float, rough: float, start: tuple[Floats, Floats, Floats]) -> _Fit:
    """Gauss-Newton steps from the pulls ``start``, halved as long as they make things worse."""
    means, variances = _priors()
    own = timed.terms.mean

    def at(pulls: tuple[Floats, Floats, Floats]) -> tuple[float, Floats, Floats, Floats, Floats]:
        common, kinds = variances * pulls[0], timed.kinds @ pulls[1]
        roughness = rough**2 * (timed.same @ pulls[2])
        found, by_common, by_step = _speedups(timed.terms, means + common, own + kinds)
        by_kind = timed.terms.dense(by_step)
        error = timed.y - found - roughness
        linear = timed.y - found + by_common @ common + by_kind @ kinds
        prior = pulls[0] @ common + pulls[1] @ kinds + pulls[2] @ roughness
        unlikely = np.log1p(error**2 / (FREEDOM * noise**2)).sum() * (FREEDOM + 1) / 2
        return prior / 2 + unlikely, error, linear, by_common, by_kind

    pulls = start
    cost, error, linear, by_common, by_kind = at(pulls)
    for _ in range(ROUNDS):
        trust = (FREEDOM + 1) / (FREEDOM + (error / noise) ** 2)
        known = (by_common * variances) @ by_common.T + by_kind @ timed.kinds @ by_kind.T
        gram = known + rough**2 * timed.same + np.diag(noise**2 / trust)
        solved = np.linalg.solve(gram, linear)
        aim = (by_common.T @ solved, by_kind.T @ solved, solved)
        before = cost
        for part in (1.0, 0.5, 0.25, 0.1):
            tried = tuple(a + part * (b - a) for a, b in zip(pulls, aim, strict=True))
            result = at(tried)  # type: ignore[arg-type]
            if result[0] <= cost:
                pulls, (cost, error, linear, by_common, by_kind) = tried, result  # type: ignore
                break
        if before - cost < 1e-3:
            break
    trust = (FREEDOM + 1) / (FREEDOM + (error / noise) ** 2)
    known = (by_common * variances) @ by_common.T + by_kind @ timed.kinds @ by_kind.T
    gram = known + rough**2 * timed.same + np.diag(noise**2 / trust)
    n = len(timed.y)
    volume = np.linalg.slogdet(gram)[1] + np.log(trust / noise**2).sum()
    evidence = -cost - n * np.log(noise) - volume / 2
    return _Fit(
        noise, rough, pulls, by_common, by_kind, np.linalg.inv(gram).astype(float), float(evidence)
    )


@dataclass(frozen=True)
class SpeedModel:
    """What timed settings tell of the speeds of others; see the module."""

    facts: PipelineFacts
    timed: _Timed
    fits: tuple[_Fit, ...]

    @classmethod
    def fit(cls, timed: Sequence[tuple[Setting, float]], facts: PipelineFacts) -> SpeedModel:
        """Learns from settings and their measured speedups over the plain pipeline; from none,
        what the accelerators expect. Of settings with a speedup of 0 (crashed) nothing is learnt.

        Raises:
            UnknownNameError: a setting names an accelerator that does not exist.
        """
        counted = [(setting, speedup) for setting, speedup in timed if speedup > 0]
        signatures = tuple(signature(setting, facts) for setting, _ in counted)
        terms = _terms(signatures)
        given = _Timed(
            signatures,
            terms,
            np.log([speedup for _, speedup in counted]),
            _between(terms, terms),
            np.array([[a == b for a in signatures] for b in signatures], dtype=float).reshape(
                len(signatures), len(signatures)
            ),
        )
        pulls = tuple(np.zeros(n) for n in (len(_priors()[0]), len(terms.kinds), len(signatures)))
        fits: list[_Fit] = []
        for noise, rough in itertools.product(NOISES[::-1], ROUGH):
            start = fits[-1].pulls if fits else pulls
            fits.append(_fit(given, noise, rough, start))  # type: ignore[arg-type]
        return cls(facts, given, tuple(fits))

    def predict(self, settings: Sequence[Setting]) -> tuple[Floats, Floats]:
        """Means and standard deviations of the log-speedups, (n,) each; the errors of another
        timing come on top."""
        signatures = tuple(signature(setting, self.facts) for setting in settings)
        terms = _terms(signatures)
        cross = _between(terms, self.timed.terms)
        rows = {each: i for i, each in enumerate(self.timed.signatures)}
        same = np.zeros((len(settings), len(self.timed.signatures)))
        for i, each in enumerate(signatures):
            if each in rows:
                same[i] = self.timed.same[rows[each]]
        evidence = np.array([fit.evidence for fit in self.fits])
        chances = np.exp(evidence - evidence.max())
        chances /= chances.sum()
        mean, square = np.zeros(len(settings)), np.zeros(len(settings))
        for chance, fit in zip(chances, self.fits, strict=True):
            if chance > 0.01:
                one, variance = _predict(fit, terms, cross, same)
                mean += chance * one
                square += chance * (variance + one**2)
        total = chances[chances > 0.01].sum()
        mean, square = mean / total, square / total
        return mean, np.sqrt(np.maximum(square - mean**2, 1e-12))


def _predict(fit: _Fit, terms: _Terms, cross: Floats, same: Floats) -> tuple[Floats, Floats]:
    """Means and variances under one assumption."""
    means, variances = _priors()
    common, kinds, rough = fit.pulls
    found, by_common, by_step = _speedups(
        terms, means + variances * common, terms.mean + cross @ kinds
    )
    mean = found + fit.rough**2 * (same @ rough)
    shared = (by_common * variances) @ fit.common.T + fit.rough**2 * same
    shared += np.einsum("np,npk->nk", by_step, (cross @ fit.steps.T)[terms.index])
    prior = (by_common**2) @ variances + fit.rough**2
    prior += np.einsum("np,npq,nq->n", by_step, terms.within, by_step)
    known = np.einsum("nk,kl,nl->n", shared, fit.inverse, shared)
    return mean, np.maximum(prior - known, 0.0)
