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
from diffaccel.experiment.grid import Setup
from diffaccel.experiment.options import MeasureOptions
from diffaccel.machine.watch import Watch
from diffaccel.plugins.accelerators import combination, sources
from diffaccel.plugins.models import ModelSpec, content_hash
from diffaccel.plugins.schedulers import scheduler_class
from diffaccel.plugins.space import SettingDict, Space, flatten, in_words, nest
from diffaccel.stages.records import SpeedRecord
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest, to_json

if TYPE_CHECKING:
    from diffaccel.evaluation.measure import Bench

log = logging.getLogger(__name__)

LEVELS = (0.0, 0.5, 1.0)
"""Where the settings lie that are timed when none are named: mild, middle, aggressive."""
PLAIN: SettingDict = {}
"""The setting that changes nothing."""
CALL_SECONDS = 3600.0
"""The longest that a call may take, compiling with it, before it counts as hung."""
TOGETHER = 5
"""Settings at most that are timed in the same rounds; a killed job loses so many."""


@dataclass(frozen=True)
class Order:
    """What is to be timed.

    Args:
        settings: exactly these, the most important first.
        accelerators: where there are no settings, three of each of these combinations (by short
            names).
    """

    settings: list[SettingDict]
    accelerators: list[tuple[str, ...]]


def run(
    setup: Setup,
    spec: ModelSpec,
    options: MeasureOptions,
    order: Order,
    platform: str,
    journal: Path,
    watch: Watch | None = None,
) -> SpeedRecord:
    """Times the plain pipeline and every setting; what the journal has of it is not timed again.

    Raises:
        InputError: the model is trained, this is other hardware than the results are for, or the
            plain pipeline itself fails.
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
        bench = benches.open_bench(setup, spec, options, device, watch=watch)
        log.info("%s: loaded", setup.slug)
        return _timed(bench, order, journal)


def _timed(bench: Bench, order: Order, path: Path) -> SpeedRecord:
    from diffaccel.evaluation import bench as benches
    from diffaccel.evaluation.flops import call_flops, matmul_ceiling
    from diffaccel.store.jsonio import today

    environment = benches.environment(bench.pipe)
    ceiling = matmul_ceiling(bench.device.name, environment.dtype)
    identity = identity_of(bench, environment)
    key = digest(identity)
    about = {
        "identity": identity,
        "setup": to_json(bench.setup),
        "spec": to_json(bench.spec),
        "options": to_json(bench.options),
        "environment": to_json(environment),
    }
    journal = Journal(path, key, SpeedRow, about, lambda row: sources(row.setting))
    rows = _rows(bench, order, journal)
    seconds = statistics.median(s for row in rows if row.timing for s in row.timing.baseline)
    tflop = call_flops(bench) / 1e12
    record = SpeedRecord(
        setup=bench.setup,
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
        "%s: plain %.3f s, %.1f TFLOP/s, %.0f%% of the %.1f that products of %d reach",
        bench.setup.slug,
        seconds,
        record.tflops,
        100 * record.share,
        ceiling.tflops,
        ceiling.size,
    )
    return record


def identity_of(bench: Bench, environment: Environment) -> dict[str, str]:
    """All that determines the times of the plain pipeline, of which nothing is scored."""
    spec, setup = bench.spec, bench.setup
    return {
        "model": digest([spec.family, content_hash(spec.source)]),
        "setup": digest([scheduler_class(setup.scheduler), setup.steps]),
        "call": digest([spec.height, spec.width, spec.guidance_scale, spec.batch_size]),
        "pairs": str(bench.options.pairs),
        "environment": digest(to_json(environment)),
    }


def _rows(bench: Bench, order: Order, journal: Journal[SpeedRow]) -> list[SpeedRow]:
    """Every setting's row, the plain pipeline's first: from the journal, or timed now. What failed
    before is tried again."""
    known = {digest(row.setting): row for row in journal.rows() if row.failure is None}
    settings = _settings(bench, order)
    missing = [setting for setting in settings if digest(setting) not in known]
    log.info(
        "%s: %d settings, %d of them timed before",
        bench.setup.slug,
        len(settings),
        len(settings) - len(missing),
    )
    if digest(PLAIN) not in known:
        known[digest(PLAIN)] = _plain(bench, journal)
    for start in range(0, len(missing), TOGETHER):
        for row in _together(bench, missing[start : start + TOGETHER]):
            journal.append(row)
            known[digest(row.setting)] = row
            _say(bench.setup, row)
    return [known[digest(setting)] for setting in (PLAIN, *settings)]


def _plain(bench: Bench, journal: Journal[SpeedRow]) -> SpeedRow:
    (row,) = _together(bench, [PLAIN])
    if row.failure is not None:
        raise InputError(
            f"{bench.setup.slug}: not even the plain pipeline could be timed: {row.failure}. "
            f"Lower batch_size (now {bench.spec.batch_size}), or the image's height and width"
        )
    journal.append(row)
    _say(bench.setup, row)
    return row


def _together(bench: Bench, settings: Sequence[SettingDict]) -> list[SpeedRow]:
    """Times settings side by side. What cannot work is a row that says so, and costs no time."""
    from diffaccel.evaluation.measure import Candidate, clock
    from diffaccel.store.jsonio import today

    against = {digest(setting): _reason_against(bench, setting) for setting in settings}
    candidates = [
        Candidate(setting, partial(bench.accelerated, setting) if setting else bench.plain)
        for setting in settings
        if against[digest(setting)] is None
    ]
    rows = {digest(row.setting): row for row in clock(bench, candidates)} if candidates else {}
    for setting in settings:
        if (reason := against[digest(setting)]) is not None:
            rows[digest(setting)] = SpeedRow(setting, None, None, 0.0, today(), reason)
    return [rows[digest(setting)] for setting in settings]


def _settings(bench: Bench, order: Order) -> list[SettingDict]:
    if order.settings:
        return order.settings
    facts = bench.facts
    return [
        setting
        for names in order.accelerators
        if combination(names).supports(facts)[0]
        for setting in representative(combination(names).space(facts))
    ]


def representative(space: Space) -> list[SettingDict]:
    """The points of the coarse grid that are nearest to each of `LEVELS` on all axes."""
    grid = space.coarse()
    points = list(grid.points())
    found: list[SettingDict] = []
    for level in LEVELS:
        nearest = min(
            points,
            key=lambda point: sum((place - level) ** 2 for place in grid.levels(point)),
            default=None,
        )
        if nearest is not None and nest(nearest) not in found:
            found.append(nest(nearest))
    return found


def _reason_against(bench: Bench, setting: SettingDict) -> str | None:
    """Why a setting cannot work here or does nothing, or None."""
    if not setting:
        return None
    combined, facts = combination(sorted(setting)), bench.facts
    ok, reason = combined.supports(facts)
    return combined.space(facts).forbids(flatten(setting)) if ok else reason


def _say(setup: Setup, row: SpeedRow) -> None:
    named = in_words(row.setting) or "plain"
    if row.timing is None:
        log.warning("%s: %s: failed: %s", setup.slug, named, row.failure)
        return
    log.info(
        "%s: %s: %.2fx, %.3f s (spread %.1f%%, first call %.1f s)",
        setup.slug,
        named,
        row.timing.speedup,
        statistics.median(row.timing.accelerated),
        100 * row.timing.spread,
        row.first_call,
    )
    for warning in row.warnings:
        log.warning("%s: %s: %s", setup.slug, named, warning)
