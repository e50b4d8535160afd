"""Predicts speeds: the time of a call is nearly a function of which steps run which blocks.

Each accelerator says what it makes of each step (`Accelerator.phases`). In units of the plain
call's time, a call then takes

    rest * exp(change of the rest) + (1 - rest) * mean over steps of exp(log share) + overheads

where ``rest`` is what is not in the steps (text encoder, decoder), and the log share of a step sums
over the accelerators what their phases leave of it, plus what pairs of phases do to each other. All
of it is unknown: a Gaussian process whose prior each phase declares, in which phases of one label
with near levels are alike. Timings determine it by Gauss-Newton steps to the most probable values;
the curvature there gives the standard deviations (Laplace's approximation), averaged over
assumptions on how noisy the timing is and how rough the model, each weighted by its evidence
(Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, sections 3.4 and 5.2).
Errors of timings follow Student's t distribution, so that an outlier counts less.
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
from scipy.linalg import cho_solve, cholesky
from scipy.sparse import csr_array

from diffaccel.plugins.accelerators import ACCELERATORS, PipelineSpec
from diffaccel.plugins.accelerators.base import Phase
from diffaccel.plugins.space import Parameters, Value

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

REST = (1.5, 1.2)
"""What is not in the steps, in units of a plain step: median, spread of the logarithm."""
CHANGE = 0.2
"""By how much an accelerator changes that: standard deviation of the logarithm."""
PLAIN = Phase("plain", share=1.0, spread=0.04)
"""What an accelerator makes of a step that is as in the baseline pipeline: nearly nothing."""
OVERHEAD = (0.005, 1.5)
"""What an accelerator adds, of a plain call's time: median, spread of the logarithm."""
ALIKE = 0.75
"""Share of a phase's variance that all phases of its label have in common."""
JOINT = 0.6
"""Spread of what two phases do to each other, of the root of the product of their spreads."""
ELSEWHERE = 0.98
"""Correlation of the log shares of a step and of the same one elsewhere."""
FREEDOM = 4.0
"""Degrees of freedom of Student's t distribution of a timing's error."""
NOISES = (0.128, 0.064, 0.032, 0.016, 0.008, 0.004)
ROUGH = (0.003, 0.01, 0.03)
"""Assumed standard deviations: of a timing, and of what the model does not know of a candidate."""
TIMING_ERROR, FORM = 0.012, 0.005
"""Those that are expected; e times as large or small is one standard deviation off."""
ROUNDS = 12
UNLIKELY = 0.02
"""Assumptions with less than this chance are left out."""
HOPELESS = 20.0
"""By how much the logarithm of the evidence of a noise is less than another's when smaller noises
still are not tried."""

Part = tuple[str, tuple[tuple[str, Value], ...]]
Step = tuple[Phase | None, ...]
Pulls = tuple[Floats, Floats, Floats]


@dataclass(frozen=True)
class Signature:
    """All that a candidate's time depends on.

    Args:
        members: short names of its accelerators, sorted.
        length: number of steps.
        steps: each kind of step, one phase a member, with its share of the steps.
        away: whether it is not of the pipeline whose speeds are predicted.
    """

    members: tuple[str, ...]
    length: int
    steps: tuple[tuple[Step, float], ...]
    away: bool

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.members, self.length, self.steps, self.away))

    def __hash__(self) -> int:
        return self._hash  # asked for often, and long to compute


@functools.lru_cache(maxsize=1 << 16)
def _signature(parts: tuple[Part, ...], pipeline: PipelineSpec, away: bool) -> Signature:
    parameters = {name: dict(values) for name, values in parts}
    columns = [
        ACCELERATORS[name].phases(
            own, {other: part for other, part in parameters.items() if other != name}, pipeline
        )
        for name, own in parameters.items()
    ]
    counts = Counter(zip(*columns, strict=True)) if columns else {(): pipeline.steps}
    steps = sorted(((step, n / pipeline.steps) for step, n in counts.items()), key=repr)
    return Signature(tuple(parameters), pipeline.steps, tuple(steps), away)


def signature(parameters: Parameters, pipeline: PipelineSpec, *, away: bool = False) -> Signature:
    """What a candidate makes of the steps of a pipeline call.

    Raises:
        UnknownNameError: it names an accelerator that does not exist.
    """
    parts = tuple((name, tuple(parameters[name].items())) for name in sorted(parameters))
    return _signature(parts, pipeline, away)


@dataclass(frozen=True)
class _Phases:
    """The phases of one accelerator that occur, as arrays; the first stands for its absence."""

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
    """Of the log shares of phases (Matern, 3/2); the arrays' leading dimensions broadcast."""
    common = min(a.levels.shape[-1], b.levels.shape[-1])
    distance = ((a.levels[..., :common] - b.levels[..., :common]) ** 2).sum(-1)
    for longer in (a, b):
        distance = distance + (longer.levels[..., common:] ** 2).sum(-1)
    apart = np.sqrt(3 * distance)
    alike = ALIKE + (1 - ALIKE) * (1 + apart) * np.exp(-apart)
    return np.where(a.label == b.label, alike, 0.0)


def _covariance(members: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Of the log shares of steps, from each accelerator's correlations of its phases and products
    of their spreads."""
    total: Floats = np.zeros(())
    effects = []
    for correlation, product in members:
        total = total + correlation * product
        effects.append(correlation * np.sqrt(product))
    for one, other in itertools.combinations(effects, 2):
        total = total + JOINT**2 * one * other
    return total


@dataclass(frozen=True, eq=False)
class _Terms:
    """The kinds of steps of n candidates, as numbers; S kinds, M accelerators.

    Args:
        phases: for each accelerator that is registered the phases that occur.
        kinds: (S, M), which phase of each; 0 where it is absent.
        place: (S,), the same for kinds of steps of one pipeline.
        index, share: (n, p), the kinds of each candidate's steps and their share of them; padded
            with share 0.
        present: (n, M), 1 where a candidate has the accelerator.
        length: (n,), numbers of steps.
    """

    phases: tuple[_Phases, ...]
    kinds: Ints
    place: Ints
    index: Ints
    share: Floats
    present: Floats
    length: Floats

    @functools.cached_property
    def mean(self) -> Floats:
        """Expected log shares of the kinds of steps, (S,)."""
        each = [phases.mean[kind] for phases, kind in zip(self.phases, self.kinds.T, strict=True)]
        return np.sum(each, axis=0, dtype=float)

    @functools.cached_property
    def within(self) -> Floats:
        """Prior covariance of the log shares of each candidate's steps, (n, p, p)."""
        members = []
        for phases, kind in zip(self.phases, self.kinds.T, strict=True):
            if len(phases.label) > 1:
                at = kind[self.index]
                a, b = phases.take(at[:, :, None]), phases.take(at[:, None, :])
                members.append((_correlation(a, b), a.spread * b.spread))
        return np.broadcast_to(_covariance(members), (*self.index.shape, self.index.shape[1]))

    def on_kinds(self, weights: Floats) -> csr_array:
        """Weights on the kinds of each candidate's steps, (n, p), as a matrix (n, S): few of each
        row are not zero."""
        matrix = copy.copy(self._empty)
        matrix.data = weights.ravel()
        return matrix

    def pulled(self, weights: csr_array, by: Floats) -> Floats:
        """Sums of such weights over the candidates, each times its own number, (S,)."""
        each = weights.data.reshape(self.index.shape) * by[:, None]
        sums: Floats = np.bincount(self.index.ravel(), each.ravel(), len(self.kinds)).astype(float)
        return sums

    @functools.cached_property
    def _empty(self) -> csr_array:
        """Such a matrix before it has its weights."""
        n, p = self.index.shape
        ends = np.arange(0, n * p + 1, max(p, 1))[: n + 1]
        weights, shape = np.zeros(n * p), (n, len(self.kinds))
        return csr_array((weights, self.index.ravel(), ends), shape=shape)


@functools.lru_cache(maxsize=8)
def _terms(signatures: tuple[Signature, ...]) -> _Terms:
    names = list(ACCELERATORS)
    phases: list[dict[Phase | None, int]] = [{None: 0} for _ in names]
    kinds: dict[tuple[int, ...], int] = {}
    rows: list[list[tuple[int, float]]] = []
    for each in signatures:
        columns = [names.index(name) for name in each.members]
        row = []
        for step, share in each.steps:
            kind = [0] * len(names)
            for m, phase in zip(columns, step, strict=True):
                kind[m] = phases[m].setdefault(phase or PLAIN, len(phases[m]))
            place = -each.length if each.away else each.length
            row.append((kinds.setdefault((*kind, place), len(kinds)), share))
        rows.append(row)
    n, width = len(rows), max(map(len, rows), default=1)
    numbers = np.array(list(kinds), dtype=np.intp).reshape(len(kinds), len(names) + 1)
    table = np.array([row + [(0, 0.0)] * (width - len(row)) for row in rows], dtype=float)
    table = table.reshape(n, width, 2)
    present = [[name in each.members for name in names] for each in signatures]
    return _Terms(
        tuple(_Phases.of(list(each)) for each in phases),
        numbers[:, :-1],
        numbers[:, -1],
        table[..., 0].astype(np.intp),
        table[..., 1],
        np.array(present, dtype=float).reshape(n, len(names)),
        np.array([each.length for each in signatures], dtype=float),
    )


@functools.lru_cache(maxsize=4)
def _between(a: _Terms, b: _Terms) -> Floats:
    """Prior covariance of the log shares of the kinds of steps, (S of a, S of b)."""
    members = []
    for m, (one, other) in enumerate(zip(a.phases, b.phases, strict=True)):
        if len(one.label) > 1 and len(other.label) > 1:
            at = np.ix_(a.kinds[:, m], b.kinds[:, m])
            table = _correlation(one.take(np.arange(len(one.label))[:, None]), other)
            members.append((table[at], np.multiply.outer(one.spread, other.spread)[at]))
    return _covariance(members) * np.where(np.equal.outer(a.place, b.place), 1.0, ELSEWHERE)


def _same(a: Sequence[Signature], b: Sequence[Signature]) -> Floats:
    """1 where signatures are equal, (len(a), len(b))."""
    numbers = {each: i for i, each in enumerate(dict.fromkeys((*a, *b)))}
    of_a, of_b = ([numbers[each] for each in signatures] for signatures in (a, b))
    return np.equal.outer(of_a, of_b).astype(float)


def _priors() -> tuple[Floats, Floats]:
    """Means and variances of what all candidates have in common: the rest, its changes by each
    accelerator, the overhead of each."""
    m = len(ACCELERATORS)
    means = [np.log(REST[0]), *[0.0] * m, *[np.log(OVERHEAD[0])] * m]
    spreads = [REST[1], *[CHANGE] * m, *[OVERHEAD[1]] * m]
    return np.array(means), np.array(spreads) ** 2


def _speedups(terms: _Terms, common: Floats, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Log-speedups (n,), and their derivatives by what is in common (n, C) and by the log shares
    of each candidate's kinds of steps (n, p)."""
    changes, over = common[1:].reshape(2, -1)
    rest = 1 / (1 + terms.length * np.exp(-common[0]))
    changed = rest * np.exp(terms.present @ changes)
    overheads = terms.present * np.exp(over)
    steps = (1 - rest)[:, None] * terms.share * np.exp(shares[terms.index])
    time = changed + steps.sum(1) + overheads.sum(1)
    by_rest = (1 - rest) * changed - rest * steps.sum(1)
    by_common = np.column_stack([by_rest, changed[:, None] * terms.present, overheads])
    return -np.log(time), -by_common / time[:, None], -steps / time[:, None]


@dataclass(frozen=True)
class _Timed:
    """What is given: timings, and the candidates that they are of. Timings of one candidate (or of
    candidates that run the same) share a row: all that costs grows with the candidates.

    Args:
        signatures: of the candidates, n.
        row: the candidate of each timing, (N,).
        y: log-speedups of the timings, (N,).
        kinds: prior covariances of the log shares of the kinds of steps, (S, S).
    """

    signatures: tuple[Signature, ...]
    terms: _Terms
    row: Ints
    y: Floats
    kinds: Floats

    @classmethod
    def of(cls, signatures: Sequence[Signature], speedups: Sequence[float]) -> _Timed:
        numbers = {each: i for i, each in enumerate(dict.fromkeys(signatures))}
        row = np.array([numbers[each] for each in signatures], dtype=np.intp)
        terms = _terms(tuple(numbers))
        return cls(tuple(numbers), terms, row, np.log(speedups), _between(terms, terms))

    def total(self, each: Floats) -> Floats:
        """Sums over the timings of each candidate, (n,)."""
        sums: Floats = np.bincount(self.row, each, len(self.signatures)).astype(float)
        return sums


@dataclass(frozen=True)
class _Guess:
    """Values of all that is unknown, and how the timings look from there.

    Args:
        pulls: what multiplies the prior covariances, of what is in common, of the kinds of steps
            and of the candidates' roughness, to give how far each is from its expectation.
        cost: negative logarithm of the probability of it all, less a constant.
        weight: how much the timings of each candidate count: the inverse of a variance.
        linear: their mean log-speedups less what they would be at the expectations, linearised.
        by_common, by_kind: derivatives of the candidates' log-speedups, (n, C) and (n, S).
    """

    pulls: Pulls
    cost: float
    weight: Floats
    linear: Floats
    by_common: Floats
    by_kind: csr_array


def _guess(timed: _Timed, noise: float, rough: float, pulls: Pulls) -> _Guess:
    means, variances = _priors()
    terms, row = timed.terms, timed.row
    common, kinds = variances * pulls[0], timed.kinds @ pulls[1]
    roughness = rough**2 * pulls[2]
    found, by_common, by_step = _speedups(terms, means + common, terms.mean + kinds)
    surprise = ((timed.y - (found + roughness)[row]) / noise) ** 2
    unlikely = np.log1p(surprise / FREEDOM).sum() * (FREEDOM + 1) / 2
    prior = pulls[0] @ common + pulls[1] @ kinds + pulls[2] @ roughness
    trust = (FREEDOM + 1) / (FREEDOM + surprise) / noise**2
    weight = timed.total(trust)
    linear = timed.total(trust * timed.y) / weight - found
    by_kind = terms.on_kinds(by_step)
    linear += by_common @ common + by_kind @ kinds
    return _Guess(pulls, prior / 2 + unlikely, weight, linear, by_common, by_kind)


def _factor(timed: _Timed, rough: float, guess: _Guess) -> Floats:
    """Cholesky factor of the covariance of the candidates' mean log-speedups, linearised."""
    _, variances = _priors()
    covariance = (guess.by_common * variances) @ guess.by_common.T
    covariance += guess.by_kind @ (guess.by_kind @ timed.kinds).T
    covariance.flat[:: len(covariance) + 1] += rough**2 + 1 / guess.weight
    factor: Floats = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
    return factor


@dataclass(frozen=True)
class _Fit:
    """The most probable guess under one assumption.

    Args:
        noise, rough: the assumption.
        factor: of the covariance of what was timed, by `_factor`.
        evidence: logarithm of the probability of the assumption and the timings.
    """

    noise: float
    rough: float
    guess: _Guess
    factor: Floats
    evidence: float

    @functools.cached_property
    def inverse(self) -> Floats:
        """Of that covariance."""
        found: Floats = cho_solve((self.factor, True), np.eye(len(self.factor)), check_finite=False)
        return found


def _fit(timed: _Timed, noise: float, rough: float, timing_error: float, start: Pulls) -> _Fit:
    """Gauss-Newton steps, each shortened until it makes things better."""
    best = _guess(timed, noise, rough, start)
    factor = _factor(timed, rough, best)
    for _ in range(ROUNDS):
        before, pull = best, cho_solve((factor, True), best.linear, check_finite=False)
        aims = (best.by_common.T @ pull, timed.terms.pulled(best.by_kind, pull), pull)
        for part in (1.0, 0.5, 0.25, 0.1):
            a, b, c = (old + part * (aim - old) for old, aim in zip(best.pulls, aims, strict=True))
            guess = _guess(timed, noise, rough, (a, b, c))
            if guess.cost <= best.cost:
                best, factor = guess, _factor(timed, rough, guess)
                break
        if before.cost - best.cost < 1e-3:
            break
    # As of the timings' own covariance, whose determinant is this one's times the weights.
    volume = 2 * np.log(factor.diagonal()).sum() + np.log(best.weight).sum()
    volume += 2 * len(timed.y) * np.log(noise)
    odd = np.log(noise / timing_error) ** 2 + np.log(rough / FORM) ** 2
    evidence = -best.cost - volume / 2 - odd / 2
    return _Fit(noise, rough, best, factor, float(evidence))


@dataclass(frozen=True)
class SpeedModel:
    """What timed candidates tell of the speeds of others; see the module.

    Args:
        facts: the pipeline whose speeds are predicted.
        chances: of the assumptions behind ``fits``.
    """

    pipeline: PipelineSpec
    timed: _Timed
    fits: tuple[_Fit, ...]
    chances: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        timed: Sequence[tuple[Parameters, float]],
        pipeline: PipelineSpec,
        elsewhere: Sequence[tuple[Parameters, float, PipelineSpec]] = (),
        timing_error: float = TIMING_ERROR,
    ) -> SpeedModel:
        """Learns from candidates and their measured speedups over the baseline pipeline; from none,
        what the accelerators expect. From a crash, of speedup 0, nothing is learnt.

        Args:
            timed: on this pipeline, of whichever accelerators.
            facts: of this pipeline.
            elsewhere: the same with another scheduler or number of steps, on the same hardware
                and model: its steps take nearly the same time.
            timing_error: relative, that is expected of a timing, as its pairs show it, say.

        Raises:
            UnknownNameError: a candidate names an accelerator that does not exist.
        """
        rows = [(signature(parameters, pipeline), speedup) for parameters, speedup in timed]
        rows += [(signature(s, there, away=True), speedup) for s, speedup, there in elsewhere]
        rows = [row for row in rows if row[1] > 0]
        given = _Timed.of([each for each, _ in rows], [speedup for _, speedup in rows])
        nothing = (len(_priors()[0]), len(given.terms.kinds), len(given.signatures))
        a, b, c = (np.zeros(n) for n in nothing)
        fits: list[_Fit] = []
        for noise, rough in itertools.product(NOISES, ROUGH):
            start = fits[-1].guess.pulls if fits else (a, b, c)
            fits.append(_fit(given, noise, rough, timing_error, start))
            # From the largest noise on the evidence rises, then falls.
            best, last = (max(fit.evidence for fit in some) for some in (fits, fits[-len(ROUGH) :]))
            if rough == ROUGH[-1] and last < best - HOPELESS:
                break
        evidence = np.array([fit.evidence for fit in fits])
        chances = np.exp(evidence - evidence.max())
        chances = np.where(chances >= UNLIKELY * chances.sum(), chances, 0.0)
        chances /= chances.sum()
        kept = [(fit, float(chance)) for fit, chance in zip(fits, chances, strict=True) if chance]
        return cls(
            pipeline, given, tuple(fit for fit, _ in kept), tuple(chance for _, chance in kept)
        )

    @property
    def noise(self) -> float:
        """Standard deviation of the error of one timing's log-speedup, as the timings show it."""
        heavy = FREEDOM / (FREEDOM - 2)
        fits = zip(self.chances, self.fits, strict=True)
        return float(np.sqrt(heavy * sum(chance * fit.noise**2 for chance, fit in fits)))

    @property
    def rough(self) -> float:
        """Standard deviation of what the model misses of a candidate, as the timings show."""
        fits = zip(self.chances, self.fits, strict=True)
        return float(np.sqrt(sum(chance * fit.rough**2 for chance, fit in fits)))

    def predict(self, candidates: Sequence[Parameters]) -> tuple[Floats, Floats]:
        """Means and standard deviations of the log-speedups, (n,) each. They are about the true
        ones: the error of a timing (`noise`) comes on top."""
        signatures = tuple(signature(parameters, self.pipeline) for parameters in candidates)
        terms, same = _terms(signatures), _same(signatures, self.timed.signatures)
        cross = _between(terms, self.timed.terms)
        mean, square = np.zeros(len(candidates)), np.zeros(len(candidates))
        for chance, fit in zip(self.chances, self.fits, strict=True):
            found, variance = _predict(fit, terms, cross, same)
            mean += chance * found
            square += chance * (variance + found**2)
        return mean, np.sqrt(np.maximum(square - mean**2, 1e-12))


def _predict(fit: _Fit, terms: _Terms, cross: Floats, same: Floats) -> tuple[Floats, Floats]:
    """Means and variances under one assumption."""
    means, variances = _priors()
    guess, rough = fit.guess, fit.rough**2
    common, kinds, roughness = guess.pulls
    found, by_common, by_step = _speedups(
        terms, means + variances * common, terms.mean + cross @ kinds
    )
    shared = (by_common * variances) @ guess.by_common.T + rough * same
    shared += terms.on_kinds(by_step) @ (guess.by_kind @ cross.T).T
    prior = (by_common**2) @ variances + rough
    prior += np.einsum("np,npq,nq->n", by_step, terms.within, by_step)
    variance = prior - ((shared @ fit.inverse) * shared).sum(1)
    return found + rough * (same @ roughness), np.maximum(variance, 0.0)
