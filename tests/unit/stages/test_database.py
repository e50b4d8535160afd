"""The two stores forget nothing: whatever was ever found stays, the newest first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffaccel.evaluation.records import Baseline, Measurement
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.recipes.recommend import recommend
from diffaccel.run.merging import merge
from diffaccel.search import found as found_journal
from diffaccel.search.records import Search
from diffaccel.stages import database
from diffaccel.store.jsonio import to_json, with_checksum, write_json, write_record
from tests.store import LIMIT, baseline, deepcache, frontier, measurement, tgate

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
DEEPCACHE, TGATE = ("deepcache",), ("tgate",)
Rows = Mapping[tuple[str, ...], Sequence[Measurement]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A platform's folder."""
    return tmp_path / "results" / "cpu"


def search(store: Path, rows: Rows, limit: float = LIMIT, beside: Baseline | None = None) -> None:
    """Leaves what a run does: a record of the search alone is overwritten by the next."""
    plain = beside or baseline(CONFIGURATION)
    cells = [
        replace(frontier(Cell(CONFIGURATION, names), each, limit=limit), baseline=plain.whole)
        for names, each in rows.items()
    ]
    found = Search(CONFIGURATION, cells, [])
    write_record(store / f"baseline/{CONFIGURATION.slug}.json", plain)
    found_journal.keep(store / "journal", found, plain)
    write_record(store / f"search/{CONFIGURATION.slug}.json", found)
    database.write(store)


def read(store: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / name).read_text())
    return found


def key(speedup: str, names: tuple[str, ...], limit: float = LIMIT) -> str:
    return str(("mini-SD1.5", "DDIMScheduler", "20", speedup, limit, list(names)))


def both() -> Rows:
    return {
        DEEPCACHE: [measurement(deepcache(3), 2.0, 0.01)],
        TGATE: [measurement(tgate(10), 1.5, 0.01)],
    }


def test_an_accelerator_that_is_not_asked_for_any_more_stays(store: Path) -> None:
    search(store, both())
    search(store, {DEEPCACHE: both()[DEEPCACHE]})
    bounds, params = read(store, database.BOUNDS), read(store, database.PARAMS)
    assert set(bounds) == {key("upbound_speedup", names) for names in both()}
    assert set(params) == {key("2.0", DEEPCACHE), key("1.5", TGATE)}
    assert bounds[key("upbound_speedup", TGATE)]["max_speedup"] == 1.65
    assert params[key("1.5", TGATE)]["params"] == tgate(10)
    (best,) = recommend(store.parent, CONFIGURATION, 1.4, accelerators=[TGATE]).recipes
    assert best.parameters == tgate(10)


def test_another_loss_limit_adds_keys(store: Path) -> None:
    search(store, both())
    before = read(store, database.BOUNDS)
    search(store, {DEEPCACHE: [measurement(deepcache(5), 3.0, 0.3)]}, limit=0.5)
    after = read(store, database.BOUNDS)
    assert before.items() <= after.items()
    assert after[key("upbound_speedup", DEEPCACHE, 0.5)]["measured_speedup"] == 3.0


def test_what_was_measured_with_something_else_stands_beside_the_newest(store: Path) -> None:
    plain = baseline(CONFIGURATION)
    larger = replace(plain, spec=replace(plain.spec, batch_size=8), digest="larger")
    search(store, both())
    search(store, {DEEPCACHE: [measurement(deepcache(4), 2.5, 0.01)]}, beside=larger)
    entry = read(store, database.BOUNDS)[key("upbound_speedup", DEEPCACHE)]
    assert entry["measured_speedup"] == 2.5 and entry["measured_with"]["batch_size"] == 8
    (other,) = entry["others"]
    assert other["measured_speedup"] == 2.0 and other["params"] == deepcache(3)
    assert other["measured_with"]["batch_size"] == plain.spec.batch_size
    # Going back: what was found then is found again, and is the newest.
    search(store, both())
    entry = read(store, database.BOUNDS)[key("upbound_speedup", DEEPCACHE)]
    assert entry["measured_speedup"] == 2.0
    assert [each["measured_speedup"] for each in entry["others"]] == [2.5]


def test_what_another_source_of_an_accelerator_gave_stays_and_answers_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(store, both())
    monkeypatch.setattr(
        found_journal, "sources", lambda parameters: dict.fromkeys(parameters, "changed")
    )
    assert recommend(store.parent, CONFIGURATION, 1.4, accelerators=[TGATE]).recipes
    search(store, {DEEPCACHE: [measurement(deepcache(4), 2.5, 0.01)]})
    assert not recommend(store.parent, CONFIGURATION, 1.4, accelerators=[TGATE]).recipes
    entry = read(store, database.BOUNDS)[key("upbound_speedup", DEEPCACHE)]
    assert entry["measured_speedup"] == 2.5
    assert [each["measured_speedup"] for each in entry["others"]] == [2.0]
    assert key("upbound_speedup", TGATE) in read(store, database.BOUNDS)


def test_two_candidates_of_one_speedup_both_stay(store: Path) -> None:
    search(store, {DEEPCACHE: [measurement(deepcache(3), 2.001, 0.01)]})
    search(store, {DEEPCACHE: [measurement(deepcache(4, 1), 2.002, 0.005)]})
    entry = read(store, database.PARAMS)[key("2.0", DEEPCACHE)]
    assert entry["params"] == deepcache(4, 1)
    assert [each["params"] for each in entry["others"]] == [deepcache(3)]


@pytest.mark.parametrize("name", [database.BOUNDS, database.PARAMS])
def test_a_deleted_store_is_made_again_as_it_was(store: Path, name: str) -> None:
    search(store, both())
    search(store, {DEEPCACHE: [measurement(deepcache(5), 3.0, 0.3)]}, limit=0.5)
    before = (store / name).read_bytes()
    (store / name).unlink()
    (store / f"search/{CONFIGURATION.slug}.json").unlink()
    database.write(store)
    assert (store / name).read_bytes() == before


def test_records_of_schema_1_are_kept_and_answered_from(store: Path) -> None:
    plain = baseline(CONFIGURATION)
    cells = [frontier(Cell(CONFIGURATION, names), each) for names, each in both().items()]
    cells = [replace(cell, baseline=plain.digest) for cell in cells]
    records = {"baseline": plain, "search": Search(CONFIGURATION, cells, [])}
    for name, record in records.items():
        content = {"schema": 1, **to_json(record)}
        for cell in content.get("cells", []):
            del cell["passing"]  # of schema 2
        write_json(store / f"{name}/{CONFIGURATION.slug}.json", with_checksum(content))
    database.write(store)
    entry = read(store, database.BOUNDS)[key("upbound_speedup", TGATE)]
    assert entry["measured_with"]["batch_size"] == plain.spec.batch_size
    assert recommend(store.parent, CONFIGURATION, 1.4, accelerators=[TGATE]).status == "met"
    search(store, {DEEPCACHE: both()[DEEPCACHE]}, beside=replace(plain, digest="new"))
    assert key("upbound_speedup", TGATE) in read(store, database.BOUNDS)


def test_the_same_found_again_takes_no_room(store: Path) -> None:
    search(store, both())
    path = store / "journal/found" / f"{CONFIGURATION.slug}.jsonl"
    before = path.read_bytes()
    search(store, both())
    assert path.read_bytes() == before


def test_what_another_machine_found_is_merged(store: Path, tmp_path: Path) -> None:
    search(store, {DEEPCACHE: both()[DEEPCACHE]})
    search(tmp_path / "theirs/cpu", {TGATE: both()[TGATE]})
    merge(tmp_path / "theirs", store.parent)
    assert set(read(store, database.BOUNDS)) == {key("upbound_speedup", each) for each in both()}


def test_merging_changes_nothing_of_what_is_there(store: Path, tmp_path: Path) -> None:
    plain = baseline(CONFIGURATION)
    search(store, both())
    other = replace(plain, digest="other")
    rows = {DEEPCACHE: [measurement(deepcache(4), 2.5, 0.01)]}
    search(tmp_path / "theirs/cpu", rows, beside=other)
    merge(tmp_path / "theirs", store.parent)
    entry = read(store, database.BOUNDS)[key("upbound_speedup", DEEPCACHE)]
    assert entry["measured_speedup"] == 2.0
    assert [each["measured_speedup"] for each in entry["others"]] == [2.5]


def test_a_line_that_is_not_whole_costs_only_itself(store: Path) -> None:
    search(store, both())
    with (store / "journal/found" / f"{CONFIGURATION.slug}.jsonl").open("ab") as file:
        file.write(b'{"schema": 2, "half a li')
    before = read(store, database.BOUNDS)
    search(store, {DEEPCACHE: [measurement(deepcache(5), 3.0, 0.3)]}, limit=0.5)
    assert before.items() <= read(store, database.BOUNDS).items()
