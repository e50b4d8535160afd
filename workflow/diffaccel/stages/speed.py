"""Timing the accelerators on an untrained model of full size: speed does not depend on weights."""

from __future__ import annotations

import contextlib
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diffaccel.errors import InputError
from diffaccel.evaluation.records import Environment, SpeedRow
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.machine.watch import Watch
from diffaccel.plugins.accelerators import combination, sources
from diffaccel.plugins.models import ModelSpec, content_hash
from diffaccel.plugins.space import ParametersDict, Space, flatten, in_words, nest
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest, to_json

if TYPE_CHECKING:
    from diffaccel.evaluation.calls import Bench

log = logging.getLogger(__name__)

LEVELS = (0.0, 0.5, 1.0)
"""Where the candidates lie that are timed when none are named: mild, middle, aggressive."""
BASELINE: ParametersDict = {}
"""The candidate that changes nothing."""
CALL_SECONDS = 3600.0
"""The longest that a call may take, compiling with it, before it counts as hung."""
TOGETHER = 5
"""Candidates at most that are timed in the same rounds; a killed job loses so many."""


@dataclass(frozen=True)
class Order:
    """What is to be timed.

    Args:
        candidates: exactly these, the most important first.
        accelerators: where there are no candidates, three of each of these combinations (by short
            names).
    """

    candidates: list[ParametersDict]
    accelerators: list[tuple[str, ...]]


def run(
    configuration: Configuration,
    spec: ModelSpec,
    options: MeasureOptions,
    order: Order,
    platform: str,
    journal: Path,
    watch: Watch | None = None,
) -> SpeedRecord:
    """Times the baseline pipeline and every candidate; what the journal has of it is not timed
    again.

    Raises:
        InputError: the model is trained, this is other hardware than the results are for, or the
            baseline pipeline itself fails.
    """
    if not spec.untrained:
        raise InputError(
            f"model {spec.name!r} is trained: its frontier has its speedups, with their losses. "
            "Only untrained models are timed alone"
        )
    from diffaccel.evaluation import bench as benches

    with contextlib.ExitStack() as stack:
        device = benches.take_device(stack, spec, platform)
        # The first batch is timed; there is nothing to score, so that no other is needed.
        options = replace(options, prompts=spec.batch_size)
        watch = (watch or Watch()).within(CALL_SECONDS)
        bench = benches.open_bench(configuration, spec, options, device, watch=watch)
        log.info("%s: loaded", configuration.slug)
        return _timed(bench, order, journal)


def _timed(bench: Bench, order: Order, path: Path) -> SpeedRecord:
    from diffaccel.evaluation import bench as benches
    from diffaccel.evaluation.flops import call_flops, matmul_ceiling
    from diffaccel.store.jsonio import today

    environment = benches.environment(bench.pipe)
    ceiling = matmul_ceiling(bench.device.name, environment.dtype)
    fingerprint = fingerprint_of(bench, environment)
    key = digest(fingerprint)
    provenance = {
        "fingerprint": fingerprint,
        "configuration": to_json(bench.configuration),
        "spec": to_json(bench.spec),
        "options": to_json(bench.options),
        "environment": to_json(environment),
    }
    journal = Journal(path, key, SpeedRow, provenance, lambda row: sources(row.parameters))
    rows = _rows(bench, order, journal)
    seconds = statistics.median(s for row in rows if row.timing for s in row.timing.baseline)
    tflop = call_flops(bench) / 1e12
    record = SpeedRecord(
        configuration=bench.configuration,
        spec=bench.spec,
        untrained=True,
        options=bench.options,
        digest=key,
        environment=environment,
        seconds=seconds,
        tflop=tflop,
        tflops=tflop / seconds,
        ceiling=ceiling,
        share=tflop / seconds / ceiling.tflops,
        rows=rows,
        date=today(),
    )
    log.info(
        "%s: baseline %.3f s, %.1f TFLOP/s, %.0f%% of the %.1f that products of %d reach",
        bench.configuration.slug,
        seconds,
        record.tflops,
        100 * record.share,
        ceiling.tflops,
        ceiling.size,
    )
    return record


def fingerprint_of(bench: Bench, environment: Environment) -> dict[str, str]:
    """All that determines the times of the baseline pipeline, of which nothing is scored."""
    from diffaccel.evaluation import bench as benches

    spec, configuration = bench.spec, bench.configuration
    return {
        "model": digest([spec.family, content_hash(spec.source)]),
        "configuration": benches.scheduling(spec, configuration),
        "call": benches.of_call(spec),
        "pairs": str(bench.options.pairs),
        "environment": digest(to_json(environment)),
    }


def _rows(bench: Bench, order: Order, journal: Journal[SpeedRow]) -> list[SpeedRow]:
    """Every candidate's row, the baseline pipeline's first: from the journal, or timed now. What
    failed before is tried again."""
    known = {digest(row.parameters): row for row in journal.rows() if row.failure is None}
    candidates = _candidates(bench, order)
    missing = [parameters for parameters in candidates if digest(parameters) not in known]
    log.info(
        "%s: %d candidates, %d of them timed before",
        bench.configuration.slug,
        len(candidates),
        len(candidates) - len(missing),
    )
    if digest(BASELINE) not in known:
        known[digest(BASELINE)] = _baseline(bench, journal)
    for start in range(0, len(missing), TOGETHER):
        for row in _together(bench, missing[start : start + TOGETHER]):
            journal.append(row)
            known[digest(row.parameters)] = row
            _say(bench.configuration, row)
    return [known[digest(parameters)] for parameters in (BASELINE, *candidates)]


def _baseline(bench: Bench, journal: Journal[SpeedRow]) -> SpeedRow:
    (row,) = _together(bench, [BASELINE])
    if row.failure is not None:
        raise InputError(
            f"{bench.configuration.slug}: not even the baseline pipeline could be timed: "
            f"{row.failure}. Lower "
            f"batch_size (now {bench.spec.batch_size}), or the image's height and width"
        )
    journal.append(row)
    _say(bench.configuration, row)
    return row


def _together(bench: Bench, candidates: Sequence[ParametersDict]) -> list[SpeedRow]:
    """Times candidates side by side. What cannot work is a row that says so, and costs no time."""
    from diffaccel.evaluation.calls import Candidate
    from diffaccel.evaluation.timing import time_candidates
    from diffaccel.store.jsonio import today

    against = {digest(parameters): _reason_against(bench, parameters) for parameters in candidates}
    able = [
        Candidate(each, partial(bench.accelerated, each) if each else bench.baseline)
        for each in candidates
        if against[digest(each)] is None
    ]
    rows = {digest(row.parameters): row for row in time_candidates(bench, able)} if able else {}
    for parameters in candidates:
        if (reason := against[digest(parameters)]) is not None:
            rows[digest(parameters)] = SpeedRow(parameters, None, None, 0.0, today(), reason)
    return [rows[digest(parameters)] for parameters in candidates]


def _candidates(bench: Bench, order: Order) -> list[ParametersDict]:
    if order.candidates:
        return order.candidates
    pipeline = bench.pipeline
    return [
        parameters
        for names in order.accelerators
        if combination(names).supports(pipeline)[0]
        for parameters in representative(combination(names).space(pipeline))
    ]


def representative(space: Space) -> list[ParametersDict]:
    """The points of the coarse grid that are nearest to each of `LEVELS` on all axes."""
    grid = space.coarse()
    points = list(grid.points())
    found: list[ParametersDict] = []
    for level in LEVELS:
        nearest = min(
            points,
            key=lambda point: sum((place - level) ** 2 for place in grid.levels(point)),
            default=None,
        )
        if nearest is not None and nest(nearest) not in found:
            found.append(nest(nearest))
    return found


def _reason_against(bench: Bench, parameters: ParametersDict) -> str | None:
    """Why a candidate cannot work here or does nothing, or None."""
    if not parameters:
        return None
    combined, pipeline = combination(sorted(parameters)), bench.pipeline
    ok, reason = combined.supports(pipeline)
    return combined.space(pipeline).forbids(flatten(parameters)) if ok else reason


def _say(configuration: Configuration, row: SpeedRow) -> None:
    named = in_words(row.parameters) or "baseline"
    if row.timing is None:
        log.warning("%s: %s: failed: %s", configuration.slug, named, row.failure)
        return
    log.info(
        "%s: %s: %.2fx, %.3f s (spread %.1f%%, first call %.1f s)",
        configuration.slug,
        named,
        row.timing.speedup,
        statistics.median(row.timing.accelerated),
        100 * row.timing.spread,
        row.first_call,
    )
    for warning in row.warnings:
        log.warning("%s: %s: %s", configuration.slug, named, warning)
