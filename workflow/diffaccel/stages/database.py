"""What was found, which is never forgotten: a journal of it, and the two stores made from that.

A search is decided anew by each experiment: for the accelerators, the loss limit and the prompts
that it asks for. What was found before, for others, is kept here until somebody deletes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffaccel.evaluation.records import Measurement
from diffaccel.search.found import Kept, keep_all, read
from diffaccel.store.jsonio import (
    SCHEMA,
    digest,
    dumps,
    write_output,
)

# What takes long to import is imported where it is needed: `diffaccel recommend` only reads.
log = logging.getLogger(__name__)

BOUNDS, PARAMS = "speedup_bounds.json", "search_params.json"


# ---- the two stores ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """What stands under a key.

    Args:
        same: what an entry must share with another one to take its place.
    """

    key: str
    same: str
    value: Mapping[str, Any]


def write(folder: Path) -> None:
    """Both stores of a platform."""
    bounds(folder, folder / BOUNDS)
    params(folder, folder / PARAMS)


def bounds(folder: Path, out: Path) -> None:
    """`speedup_bounds.json`: the largest speedup of every cell that has one, by loss limit."""
    _write(folder, out, _bound)


def params(folder: Path, out: Path) -> None:
    """`search_params.json`: every candidate that was found, under its measured speedup."""
    _write(folder, out, _params)


def _write(folder: Path, out: Path, entries: Any) -> None:
    keep_all(folder)
    # A key names the loss limit alone: what was found with other limits has none. Those of a cell
    # are looked at here, those of a task in `_params`.
    kept = [each for each in read(folder / "journal") if not each.found.cell.search.limits]
    write_output(out, dumps(_table(entry for each in kept for entry in entries(each))))


def _table(entries: Iterable[_Entry]) -> dict[str, Any]:
    """Under each key the newest, and in its ``others`` what was measured with anything else, the
    newest first."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        under = found.setdefault(entry.key, {})
        under.pop(entry.same, None)
        under[entry.same] = entry.value
    table = {}
    for key, under in found.items():
        newest, *others = reversed(under.values())
        table[key] = {**newest, **({"others": others} if others else {})}
    return table


def _bound(kept: Kept) -> Iterator[_Entry]:
    from diffaccel.search.answers import stored_bound

    known = kept.found.cell
    if known.bound is not None:
        value = {
            "max_speedup": stored_bound(known),
            "measured_speedup": round(known.bound.speedup, 4),
            **_described(kept, known.bound),
        }
        yield _Entry(kept.cell.key("upbound_speedup", known.loss_limit), kept.digest, value)


def _params(kept: Kept) -> Iterator[_Entry]:
    """Of two candidates of the same rounded speedup the one with less loss comes last."""
    known = kept.found.cell
    rows = [(known.loss_limit, known.bound)] if known.bound is not None else []
    answers = (each for each in kept.found.answers if each.task.limits is None)
    rows += [(each.task.max_loss, each.chosen) for each in answers if each.chosen]
    for limit, row in sorted(rows, key=lambda pair: -pair[1].loss):
        key = kept.cell.key(str(round(row.speedup, 2)), limit)
        value = {"speedup": row.speedup, **_described(kept, row)}
        yield _Entry(key, digest([kept.digest, row.parameters]), value)


def _described(kept: Kept, row: Measurement) -> dict[str, Any]:
    return {
        "params": row.parameters,
        "score_loss": row.loss,
        "score_loss_interval": list(row.loss_interval),
        "scores": row.means,
        "cell": kept.cell.slug,
        "date": row.date,
        "schema": SCHEMA,
        "measured_with": {"prompts": row.prompts, **_with(kept.provenance), "digest": kept.digest},
    }


def _with(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured with, in words."""
    spec, options, where = (provenance.get(name, {}) for name in ("spec", "options", "environment"))
    named: Sequence[tuple[Mapping[str, Any], Sequence[str]]] = (
        (spec, ("source", "height", "width", "guidance_scale", "batch_size", "scorer")),
        (options, ("seed",)),
        (where, ("device", "driver", "dtype", "attention", "threads", "versions")),
    )
    return {name: of[name] for of, names in named for name in names if name in of}
