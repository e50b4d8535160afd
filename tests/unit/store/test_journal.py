"""The journal keeps every whole row, whoever writes, and never gives a stale one."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffaccel.evaluation.records import Measurement
from diffaccel.store.journal import Journal, Line, lines, writing


def measurement(interval: int = 3) -> Measurement:
    return Measurement(
        parameters={"deepcache": {"cache_interval": interval, "cache_branch_id": 0}},
        speedup=2.0,
        loss=0.01,
        loss_interval=(0.0, 0.02),
        timing=None,
        scores={"clip_score": [80.0, 90.0]},
        means={"clip_score": 85.0},
        first_call=None,
        spent=1.0,
        date="2026-11-20T00:00:00Z",
    )


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "cell.jsonl", "abc", Measurement)
    rows = [measurement(interval) for interval in range(2, 6)]
    for row in rows:
        journal.append(row)
    assert journal.rows() == rows


def test_another_baseline_sees_nothing(tmp_path: Path) -> None:
    Journal(tmp_path / "j", "abc", Measurement).append(measurement())
    assert Journal(tmp_path / "j", "abd", Measurement).rows() == []


@pytest.mark.parametrize("damage", [b'{"schema": 1, "basel', b"\xff\xfe garbage", b"[]", b"{}"])
def test_a_torn_line_costs_only_itself(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "j", "abc", Measurement)
    journal.append(measurement(2))
    with journal.path.open("ab") as file:
        file.write(damage)
    journal.append(measurement(4))
    with caplog.at_level(logging.WARNING):
        rows = journal.rows()
    assert [row.parameters["deepcache"]["cache_interval"] for row in rows] == [2, 4]
    assert f"{journal.path}:2" in caplog.text


def test_any_cut_keeps_the_rows_before_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "abc", Measurement)
    journal.append(measurement(2))
    whole = len(journal.path.read_bytes())
    journal.append(measurement(3))
    content = journal.path.read_bytes()
    for cut in range(whole, len(content) - 1, 7):
        journal.path.write_bytes(content[:cut])
        assert len(journal.rows()) == 1
        journal.append(measurement(5))
        assert [row.parameters["deepcache"]["cache_interval"] for row in journal.rows()] == [2, 5]


def test_many_writers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "abc", Measurement)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(journal.append, [measurement(n) for n in range(40)]))
    found = {row.parameters["deepcache"]["cache_interval"] for row in journal.rows()}
    assert found == set(range(40))


def test_an_edited_row_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path / "j", "abc", Measurement)
    for interval in (2, 3):
        journal.append(measurement(interval))
    text = journal.path.read_text()
    journal.path.write_text(text.replace('"loss": 0.01', '"loss": 0.001', 1))
    with caplog.at_level(logging.WARNING):
        (row,) = journal.rows()
    assert row == measurement(3) and f"{journal.path}:1" in caplog.text
    assert "changed after it was written" in caplog.text


def test_rows_without_a_seal_are_read(tmp_path: Path) -> None:
    """They are of a version that knew none."""
    journal = Journal(tmp_path / "j", "abc", Measurement)
    journal.append(measurement())
    row = json.loads(journal.path.read_text())
    del row["checksum"]
    journal.path.write_text(json.dumps(row) + "\n")
    assert journal.rows() == [measurement()]


def test_what_a_digest_is_of_stands_before_its_first_row(tmp_path: Path) -> None:
    for _ in range(2):
        for digest in ("abc", "def"):
            journal = Journal(tmp_path / "j", digest, Measurement, {"model": digest})
            journal.append(measurement())
    found = [line for line in lines(tmp_path / "j") if isinstance(line, Line)]
    told = [(line.digest, dict(line.provenance) if line.provenance else None) for line in found]
    assert told == [
        ("abc", {"model": "abc"}),
        ("abc", None),
        ("def", {"model": "def"}),
        ("def", None),
        ("abc", None),
        ("def", None),
    ]
    assert len(journal.rows()) == 2


def test_rows_of_another_schema_are_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "abc", Measurement)
    row = {"schema": 99, "baseline": "abc", "measurement": {"new": 1}}
    journal.path.write_text(json.dumps(row) + "\n")
    assert journal.rows() == []


def test_one_process_measures_at_a_time(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from diffaccel.store.journal import writing\n"
    code += "with writing(Path(sys.argv[1])): print('in')"
    command = [sys.executable, "-c", code, str(tmp_path / "j")]
    with writing(tmp_path / "j"):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2)
    assert other.communicate(timeout=30)[0] == "in\n"
