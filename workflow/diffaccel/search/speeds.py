"""Predicts speeds: the time of a call is nearly a function of which steps run which blocks.

In units of the baseline call's time, a call takes

    rest * exp(change of the rest) + (1 - rest) * mean over steps of exp(log cost) + overheads

where ``rest`` is what is not in the steps (text encoder, decoder), and the log cost of a step is
the logarithm of its relative cost (`step_kinds`). Everything in it is unknown and has a prior.
Timings determine it by Gauss-Newton steps to the most probable values; the curvature there gives
the standard deviations (Laplace's approximation), averaged over assumptions on how noisy the timing
is and how large the nugget (what the model cannot know of a candidate), each weighted by its
evidence (Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, sections 3.4 and
5.2). Errors of timings follow Student's t distribution, so that an outlier counts less.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from diffaccel.plugins.accelerators import ACCELERATORS, PipelineSpec
from diffaccel.plugins.space import Parameters
from diffaccel.search.gaussian import Factor, Floats
from diffaccel.search.step_kinds import (
    Ints,
    Signature,
    Terms,
    covariance_between,
    equal_signatures,
    signature,
    terms_of,
)

REST = (1.5, 1.2)
"""What is not in the steps, in units of a baseline step: median, spread of the logarithm."""
CHANGE = 0.2
"""By how much an accelerator changes that: standard deviation of the logarithm."""
OVERHEAD = (0.005, 1.5)
"""What an accelerator adds, of a baseline call's time: median, spread of the logarithm."""
FREEDOM = 4.0
"""Degrees of freedom of Student's t distribution of a timing's error."""
NOISES = (0.128, 0.064, 0.032, 0.016, 0.008, 0.004)
NUGGETS = (0.003, 0.01, 0.03)
"""Assumed standard deviations: of a timing, and of what the model does not know of a candidate."""
TIMING_ERROR, NUGGET = 0.012, 0.005
"""Those that are expected; e times as large or small is one standard deviation off."""
ROUNDS = 12
UNLIKELY = 0.02
"""Assumptions with less than this chance are left out."""
HOPELESS = 20.0
"""By how much the logarithm of the evidence of a noise is less than another's when smaller noises
still are not tried."""

Weights = tuple[Floats, Floats, Floats]
"""What multiplies the prior covariances, of what is in common, of the steps and of the candidates'
nuggets, to give how far each is from its expectation: (C,), (S,) and (n,)."""


def _priors() -> tuple[Floats, Floats]:
    """Means and variances of what all candidates have in common: the rest, its changes by each
    accelerator, the overhead of each."""
    m = len(ACCELERATORS)
    means = [np.log(REST[0]), *[0.0] * m, *[np.log(OVERHEAD[0])] * m]
    spreads = [REST[1], *[CHANGE] * m, *[OVERHEAD[1]] * m]
    return np.array(means), np.array(spreads) ** 2


def _speedups(terms: Terms, common: Floats, costs: Floats) -> tuple[Floats, Floats, Floats]:
    """Log-speedups (n,), and their derivatives by what is in common (n, C) and by the log costs
    of each candidate's steps (n, p)."""
    changes, over = common[1:].reshape(2, -1)
    rest = 1 / (1 + terms.length * np.exp(-common[0]))
    changed = rest * np.exp(terms.present @ changes)
    overheads = terms.present * np.exp(over)
    steps = (1 - rest)[:, None] * terms.share * np.exp(costs[terms.index])
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
        prior: prior covariances of the log costs of the steps, (S, S).
    """

    signatures: tuple[Signature, ...]
    terms: Terms
    row: Ints
    y: Floats
    prior: Floats

    @classmethod
    def of(cls, signatures: Sequence[Signature], speedups: Sequence[float]) -> _Timed:
        numbers = {each: i for i, each in enumerate(dict.fromkeys(signatures))}
        row = np.array([numbers[each] for each in signatures], dtype=np.intp)
        terms = terms_of(tuple(numbers))
        return cls(tuple(numbers), terms, row, np.log(speedups), covariance_between(terms, terms))

    def total(self, each: Floats) -> Floats:
        """Sums over the timings of each candidate, (n,)."""
        sums: Floats = np.bincount(self.row, each, len(self.signatures)).astype(float)
        return sums


@dataclass(frozen=True)
class _Guess:
    """Values of all that is unknown, and how the timings look from there.

    Args:
        weights: that give the values.
        cost: negative logarithm of the probability of it all, less a constant.
        precision: how much the timings of each candidate count: the inverse of a variance.
        linear: their mean log-speedups less what they would be at the expectations, linearised.
        by_common, by_step: derivatives of the candidates' log-speedups, (n, C) and (n, S).
    """

    weights: Weights
    cost: float
    precision: Floats
    linear: Floats
    by_common: Floats
    by_step: csr_array


def _guess(timed: _Timed, noise: float, nugget: float, weights: Weights) -> _Guess:
    means, variances = _priors()
    terms, row = timed.terms, timed.row
    common, costs = variances * weights[0], timed.prior @ weights[1]
    nuggets = nugget**2 * weights[2]
    found, by_common, by_step = _speedups(terms, means + common, terms.mean + costs)
    surprise = ((timed.y - (found + nuggets)[row]) / noise) ** 2
    unlikely = np.log1p(surprise / FREEDOM).sum() * (FREEDOM + 1) / 2
    prior = weights[0] @ common + weights[1] @ costs + weights[2] @ nuggets
    by_timing = (FREEDOM + 1) / (FREEDOM + surprise) / noise**2
    precision = timed.total(by_timing)
    linear = timed.total(by_timing * timed.y) / precision - found
    on_steps = terms.on_steps(by_step)
    linear += by_common @ common + on_steps @ costs
    return _Guess(weights, prior / 2 + unlikely, precision, linear, by_common, on_steps)


def _factor(timed: _Timed, nugget: float, guess: _Guess) -> Factor:
    """Of the covariance of the candidates' mean log-speedups, linearised."""
    _, variances = _priors()
    covariance = (guess.by_common * variances) @ guess.by_common.T
    covariance += guess.by_step @ (guess.by_step @ timed.prior).T
    covariance.flat[:: len(covariance) + 1] += nugget**2 + 1 / guess.precision
    return Factor.of(covariance)


@dataclass(frozen=True)
class _Fit:
    """The most probable guess under one assumption.

    Args:
        noise, nugget: the assumption.
        factor: of the covariance of what was timed, by `_factor`.
        evidence: logarithm of the probability of the assumption and the timings.
    """

    noise: float
    nugget: float
    guess: _Guess
    factor: Factor
    evidence: float


def _fit(timed: _Timed, noise: float, nugget: float, timing_error: float, start: Weights) -> _Fit:
    """Gauss-Newton steps, each shortened until it makes things better."""
    best = _guess(timed, noise, nugget, start)
    factor = _factor(timed, nugget, best)
    for _ in range(ROUNDS):
        before, solved = best, factor.solve(best.linear)
        aims = (best.by_common.T @ solved, timed.terms.weighted_sum(best.by_step, solved), solved)
        for part in (1.0, 0.5, 0.25, 0.1):
            a, b, c = (
                old + part * (aim - old) for old, aim in zip(best.weights, aims, strict=True)
            )
            guess = _guess(timed, noise, nugget, (a, b, c))
            if guess.cost <= best.cost:
                best, factor = guess, _factor(timed, nugget, guess)
                break
        if before.cost - best.cost < 1e-3:
            break
    # As of the timings' own covariance, whose determinant is this one's times the precisions.
    volume = factor.log_determinant + np.log(best.precision).sum()
    volume += 2 * len(timed.y) * np.log(noise)
    odd = np.log(noise / timing_error) ** 2 + np.log(nugget / NUGGET) ** 2
    evidence = -best.cost - volume / 2 - odd / 2
    return _Fit(noise, nugget, best, factor, float(evidence))


def _fit_all(timed: _Timed, timing_error: float) -> list[_Fit]:
    """Under each assumption that is worth trying, each from where the one before ended."""
    counts = (len(_priors()[0]), len(timed.terms.steps), len(timed.signatures))
    a, b, c = (np.zeros(n) for n in counts)
    fits: list[_Fit] = []
    for noise, nugget in itertools.product(NOISES, NUGGETS):
        start = fits[-1].guess.weights if fits else (a, b, c)
        fits.append(_fit(timed, noise, nugget, timing_error, start))
        # From the largest noise on the evidence rises, then falls.
        best, last = (max(fit.evidence for fit in some) for some in (fits, fits[-len(NUGGETS) :]))
        if nugget == NUGGETS[-1] and last < best - HOPELESS:
            break
    return fits


@dataclass(frozen=True)
class SpeedModel:
    """What timed candidates tell of the speeds of others; see the module.

    Args:
        pipeline: whose speeds are predicted.
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
        transfer: Sequence[tuple[Parameters, float, PipelineSpec]] = (),
        timing_error: float = TIMING_ERROR,
    ) -> SpeedModel:
        """Learns from candidates and their measured speedups over the baseline pipeline; from none,
        what the accelerators expect. From a crash, of speedup 0, nothing is learnt.

        Args:
            timed: on this pipeline, of whichever accelerators.
            transfer: transfer data, the same with another scheduler or number of steps, on the same
                hardware and model: its steps take nearly the same time.
            timing_error: relative, that is expected of a timing, as its pairs show it, say.

        Raises:
            UnknownNameError: a candidate names an accelerator that does not exist.
        """
        rows = [(signature(parameters, pipeline), speedup) for parameters, speedup in timed]
        rows += [(signature(s, there, transfer=True), speedup) for s, speedup, there in transfer]
        rows = [row for row in rows if row[1] > 0]
        given = _Timed.of([each for each, _ in rows], [speedup for _, speedup in rows])
        fits = _fit_all(given, timing_error)
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
    def nugget(self) -> float:
        """Standard deviation of what the model misses of a candidate, as the timings show."""
        fits = zip(self.chances, self.fits, strict=True)
        return float(np.sqrt(sum(chance * fit.nugget**2 for chance, fit in fits)))

    def predict(self, candidates: Sequence[Parameters]) -> tuple[Floats, Floats]:
        """Means and standard deviations of the log-speedups, (n,) each. They are about the true
        ones: the error of a timing (`noise`) comes on top.

        Raises:
            UnknownNameError: a candidate names an accelerator that does not exist.
        """
        signatures = tuple(signature(parameters, self.pipeline) for parameters in candidates)
        terms, same = terms_of(signatures), equal_signatures(signatures, self.timed.signatures)
        cross = covariance_between(terms, self.timed.terms)
        mean, square = np.zeros(len(candidates)), np.zeros(len(candidates))
        for chance, fit in zip(self.chances, self.fits, strict=True):
            found, variance = _predict(fit, terms, cross, same)
            mean += chance * found
            square += chance * (variance + found**2)
        return mean, np.sqrt(np.maximum(square - mean**2, 1e-12))


def _predict(fit: _Fit, terms: Terms, cross: Floats, same: Floats) -> tuple[Floats, Floats]:
    """Means and variances under one assumption."""
    means, variances = _priors()
    guess, nugget = fit.guess, fit.nugget**2
    common, costs, nuggets = guess.weights
    found, by_common, by_step = _speedups(
        terms, means + variances * common, terms.mean + cross @ costs
    )
    shared = (by_common * variances) @ guess.by_common.T + nugget * same
    shared += terms.on_steps(by_step) @ (guess.by_step @ cross.T).T
    prior = (by_common**2) @ variances + nugget
    prior += np.einsum("np,npq,nq->n", by_step, terms.within, by_step)
    variance = prior - ((shared @ fit.factor.inverse) * shared).sum(1)
    return found + nugget * (same @ nuggets), np.maximum(variance, 0.0)
