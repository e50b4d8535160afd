"""How scripts serve: latency, throughput, memory and energy at the batch sizes asked for."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaccel.evaluation.failures import free_memory, is_out_of_memory
from diffaccel.evaluation.pairs import latencies
from diffaccel.evaluation.records import GIB, Measurement, SpeedRow, Usage
from diffaccel.evaluation.timing import time_candidates
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.space import in_words
from diffaccel.stages.records import Served, Verification
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import today

if TYPE_CHECKING:
    import pandas as pd

    from diffaccel.stages.script import Script
    from diffaccel.stages.verify import Verifier

log = logging.getLogger(__name__)

FOLDER = "served"
"""Of the journals."""


@dataclass(frozen=True)
class Serving:
    """What is measured of scripts besides what proves them.

    Args:
        batch_sizes: images of a call.
        calls: of each script at each of these, in pairs with the baseline pipeline's.
    """

    batch_sizes: Sequence[int] = ()
    calls: int = 0


def serve(
    verifier: Verifier,
    groups: Sequence[Sequence[Script]],
    verified: Mapping[str, Measurement],
    asked: Serving,
    journal: Path,
) -> list[Served]:
    """Scripts at their own batch size, and at each that is asked for. What was measured with as
    many calls is not measured again.

    Args:
        groups: scripts of the same parameters, which are measured once.
        verified: what was measured of each when it was verified.
        journal: of the verification; beside its folder lies that of this.
    """
    baseline = verifier.baseline
    own = baseline.images_per_call
    sizes = sorted({*asked.batch_sizes})
    known = _known(verifier, verified, own) if own not in sizes else {}
    if sizes:
        path = journal.parent.parent / FOLDER / journal.name
        rows = Journal(path, baseline.digest, Served, baseline.provenance())
        known |= {
            (row.script, row.batch_size): row for row in rows.rows() if row.row.passing is None
        }
        for same in groups:
            name = same[0].digest
            missing = [size for size in sizes if _calls(known.get((name, size))) < asked.calls]
            for served in _measured(verifier, same, missing, asked.calls) if missing else ():
                rows.append(served)
                known[name, served.batch_size] = served
    wanted = [(same[0].digest, size) for same in groups for size in sorted({own, *sizes})]
    return [known[each] for each in wanted if each in known]


def _known(
    verifier: Verifier, verified: Mapping[str, Measurement], size: int
) -> dict[tuple[str, int], Served]:
    """What verifying scripts told of them."""
    return {
        (name, size): Served(
            name,
            size,
            SpeedRow(
                row.parameters,
                row.timing,
                row.first_call,
                row.spent,
                row.date,
                usage=row.usage,
                baseline_usage=row.baseline_usage,
            ),
        )
        for name, row in verified.items()
        if row.timing is not None
    }


def _calls(served: Served | None) -> float:
    """How many calls are known of a script at a batch size; of one that failed, enough."""
    if served is None:
        return 0
    return len(served.row.timing.pairs) if served.row.timing else math.inf


def _measured(
    verifier: Verifier, same: Sequence[Script], sizes: Sequence[int], calls: int
) -> Iterator[Served]:
    own, candidate = verifier.load(same)
    name, count = same[0].path.stem, len(own.prompts)
    for size in sizes:
        # Where there are fewer prompts, they come again with other seeds.
        bench = replace(
            own,
            spec=replace(own.spec, batch_size=size),
            options=replace(own.options, pairs=calls, max_pairs=calls),
            prompts=[own.prompts[number % count] for number in range(max(size, count))],
        )
        try:
            (row,) = time_candidates(bench, [replace(candidate, goals=())])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            failure = f"not enough memory for {size} images of the baseline pipeline at once"
            row = SpeedRow(candidate.parameters, None, None, 0.0, today(), failure)
        log.info("%s at %d images a call: %s", name, size, _in_words(row))
        yield Served(same[0].digest, size, row)


def _in_words(row: SpeedRow) -> str:
    if row.timing is None:
        return row.failure or "it was not timed"
    half, most = latencies(row.timing.accelerated)
    return f"p50 {half:.3g} s, p99 {most:.3g} s; {row.timing.speedup:.2f}x"


# ---- the table ---------------------------------------------------------------------------------


def columns(served: Served | None) -> dict[str, Any]:
    """What the summary says of a script at the baseline's batch size."""
    calls = served.row.timing if served else None
    size = served.batch_size if served else 0
    found = _calls_of(calls.accelerated, size) if calls else {}
    found |= _taken(served.row.usage if served else None)
    return {name: found.get(name) for name in OF_CALLS}


def table(verifications: Iterable[Verification]) -> pd.DataFrame:
    """A row for each distinct script that was verified and each batch size, and before them one for
    the baseline pipeline beside it.

    Returns:
        Columns: the configuration; ``ids`` of the scripts, empty for the baseline pipeline;
        latencies in seconds of a call; memory in GiB; energy in joules of an image.
    """
    import pandas as pd

    rows = [row for verification in verifications for row in _rows(verification)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


OF_CALLS = (
    *("calls", "latency_p50", "latency_p99", "images_per_second"),
    *("device_gib", "host_gib", "joules_per_image"),
)
COLUMNS = (
    *("model", "scheduler", "steps", "accelerators", "parameters", "ids", "batch_size"),
    *(*OF_CALLS, "speedup", "speedup_error", "problem"),
)


def _rows(verification: Verification) -> Iterator[dict[str, Any]]:
    ids: dict[str, list[str]] = {}
    for result in verification.results:
        ids.setdefault(result.script, []).append(result.id)
    for size in sorted({each.batch_size for each in verification.served}):
        some = [each for each in verification.served if each.batch_size == size]
        yield _baseline(verification.configuration, size, [each.row for each in some])
        for each in some:
            row = each.row
            yield {
                **_of(verification.configuration, size),
                "accelerators": combination(sorted(row.parameters)).title,
                "parameters": in_words(row.parameters),
                "ids": " ".join(ids.get(each.script, [])),
                **(_calls_of(row.timing.accelerated, size) if row.timing else {}),
                "speedup": row.timing.speedup if row.timing else None,
                "speedup_error": row.timing.error if row.timing else None,
                **_taken(row.usage),
                "problem": row.failure or "; ".join(row.warnings),
            }


def _baseline(configuration: Configuration, size: int, rows: Sequence[SpeedRow]) -> dict[str, Any]:
    """The baseline pipeline at a batch size, of all its calls beside scripts."""
    seconds = [each for row in rows if row.timing for each in row.timing.baseline]
    return {
        **_of(configuration, size),
        "accelerators": "",
        "parameters": "",
        "ids": "",
        **(_calls_of(seconds, size) if seconds else {}),
        **_taken(Usage.of(row.baseline_usage for row in rows)),
    }


def _of(configuration: Configuration, size: int) -> dict[str, Any]:
    scheduler, steps = configuration.scheduler, configuration.steps
    return {
        "model": configuration.model,
        "scheduler": scheduler,
        "steps": steps,
        "batch_size": size,
    }


def _calls_of(seconds: Sequence[float], size: int) -> dict[str, Any]:
    half, most = latencies(seconds)
    return {
        "calls": len(seconds),
        "latency_p50": half,
        "latency_p99": most,
        "images_per_second": size * len(seconds) / sum(seconds),
    }


def _taken(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    device, host = usage.device_bytes, usage.host_bytes
    return {
        "device_gib": None if device is None else device / GIB,
        "host_gib": None if host is None else host / GIB,
        "joules_per_image": usage.joules,
    }
