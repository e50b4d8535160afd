"""What earlier versions wrote is read, whatever its fields are called now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffaccel.evaluation import keys
from diffaccel.evaluation.records import Baseline, Evaluation
from diffaccel.experiment.grid import Configuration
from diffaccel.run.files import Journal
from diffaccel.run.listing import Store
from diffaccel.run.stores import hold
from diffaccel.store.jsonio import RecordError, digest, read_record, to_json, write_json
from diffaccel.store.upgrade import NOW
from tests import store
from tests.store import deepcache, measurement

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
BEFORE = {now: before for before, now in NOW.items()}


def as_before(value: Any) -> Any:
    """A JSON value with the names that its fields had in schema 2."""
    if isinstance(value, dict):
        return {BEFORE.get(key, key): as_before(item) for key, item in value.items()}
    return [as_before(item) for item in value] if isinstance(value, list) else value


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "seal": digest(content)}


def test_a_record_of_schema_2_is_the_same(tmp_path: Path) -> None:
    record = store.baseline(CONFIGURATION)
    old = sealed({"schema": 2, **as_before(to_json(record))})
    assert "setup" in old and "facts" in old and "configuration" not in old
    write_json(tmp_path / "b.json", old)
    assert read_record(Baseline, tmp_path / "b.json") == record
    write_json(tmp_path / "b.json", {**old, "shuffled_score": 1.0})
    with pytest.raises(RecordError, match="changed after it was written"):
        read_record(Baseline, tmp_path / "b.json")


def test_a_journal_of_schema_2_is_taken_over_with_its_folder(tmp_path: Path) -> None:
    record, row = store.baseline(CONFIGURATION), measurement(deepcache(3), 2.0, 0.01)
    evaluated = Evaluation(**{name: vars(row)[name] for name in Evaluation.__dataclass_fields__})
    own = dict(keys.of_evaluation(record)(evaluated))
    line = {"schema": 2, "baseline": record.digest, "of": own}
    rows = [
        {**line, "measurement": as_before(to_json(evaluated))},
        {"schema": 2, "baseline": record.digest, "about": as_before(record.provenance())},
    ]
    path = tmp_path / "journal" / "drawn" / "cell.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(sealed(each)) + "\n" for each in rows))
    write_json(
        tmp_path / f"baseline/{CONFIGURATION.slug}.json",
        sealed({"schema": 2, **as_before(to_json(record))}),
    )
    ((_, read),) = Journal(path).rows()
    assert read == to_json(evaluated)
    (before,) = Store(tmp_path).rows()
    assert before.kind == "evaluations" and before.current
    with hold(tmp_path):
        assert keys.evaluated(tmp_path / "journal", record, "cell").rows() == [evaluated]
    assert not path.exists()


def test_rows_of_both_folders_come_together(tmp_path: Path) -> None:
    record = store.baseline(CONFIGURATION)
    journal = tmp_path / "journal"
    for folder, count in (("drawn", 3), ("evaluations", 5)):
        row = measurement(deepcache(count), 2.0, 0.01)
        fields = {name: vars(row)[name] for name in Evaluation.__dataclass_fields__}
        keys.evaluated(journal, record, "cell").append(Evaluation(**fields))
        if folder == "drawn":
            (journal / "evaluations").rename(journal / "drawn")
    with hold(tmp_path):
        found = keys.evaluated(journal, record, "cell").rows()
    assert [row.parameters for row in found] == [deepcache(5), deepcache(3)]
