"""Records on disk: whole or not at all, and clear about what is wrong with them."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.tasks import Task
from diffaccel.store.jsonio import (
    SUMS,
    RecordError,
    changed_outputs,
    digest,
    dumps,
    read_record,
    write_output,
    write_record,
    write_text,
)

TASK = Task(
    "a", "target", Cell(Configuration("m", "DDIM", 20), ("deepcache",)), 1.5, None, 0.02, None
)


def test_a_record_survives(tmp_path: Path) -> None:
    write_record(tmp_path / "deep" / "task.json", TASK)
    assert read_record(Task, tmp_path / "deep" / "task.json") == TASK
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["task.json"]


def test_bytes_are_stable() -> None:
    assert dumps({"b": 1, "a": [0.1, True]}) == dumps({"a": [0.1, True], "b": 1})
    assert dumps({}).endswith("\n")
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) != digest({"a": 2, "b": 2})


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps({"loss": float("nan")})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 99}, "schema 99"),
        ({"max_loss": "much"}, "max_loss.*'much'"),
        ({"origin": "dream"}, "origin.*'dream'"),
        ({"cell": {"configuration": {"model": "m"}}}, "cell"),
    ],
)
def test_a_wrong_record_names_file_and_field(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = tmp_path / "task.json"
    write_record(path, TASK)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError, match=says) as caught:
        read_record(Task, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}trailing', "\x00"])
def test_what_is_not_json_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "task.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"task\.json: not JSON"):
        read_record(Task, path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read_record(Task, tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_an_edited_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    write_record(path, TASK)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content))  # laid out in another way: nothing changed
    assert read_record(Task, path) == TASK
    path.write_text(json.dumps(content | {"required": 9.5}))
    with pytest.raises(
        RecordError, match=r"task\.json: changed after it was written.*delete its checksum"
    ):
        read_record(Task, path)
    del content["checksum"]  # meant, or of a version that knew none
    path.write_text(json.dumps(content | {"required": 9.5}))
    assert read_record(Task, path).required == 9.5


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """What ``sha256sum`` says of a folder's checksums; a line that it cannot read is a fault."""
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_checksums_hold_however_often_a_file_is_written(tmp_path: Path) -> None:
    for text in ("first", "second", "first", "first", "third"):
        for name in ("a.csv", "b c.csv"):
            write_output(tmp_path / name, text)
            assert (said := checked(tmp_path)).returncode == 0, said.stdout + said.stderr
    (tmp_path / "a.csv").write_text("first")
    assert "a.csv: FAILED" in checked(tmp_path).stdout
    assert changed_outputs(tmp_path) == [tmp_path / "a.csv"]


def test_a_write_that_was_cut_short_leaves_a_whole_file(tmp_path: Path) -> None:
    write_output(tmp_path / "a.csv", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.csv", "\ud800")
    sums = (tmp_path / SUMS).read_text()
    other = sums.replace(sums[:64], "0" * 64)  # the sum of what was to come
    (tmp_path / SUMS).write_text(sums + other)
    assert changed_outputs(tmp_path) == []
    (tmp_path / SUMS).write_text(sums + other[:20])  # no whole line
    write_output(tmp_path / "b.csv", "b")
    assert changed_outputs(tmp_path) == []
    write_output(tmp_path / "a.csv", "new")
    assert changed_outputs(tmp_path) == []


def test_two_who_write_one_folder_lose_no_checksum(tmp_path: Path) -> None:
    def write(worker: int) -> None:
        for number in range(30):
            write_output(tmp_path / f"{number % 7}.csv", f"{worker} {number}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert checked(tmp_path).returncode == 0
    assert len([line for line in (tmp_path / SUMS).read_text().splitlines() if line[0] != "#"]) == 7


def test_outputs_that_were_changed_are_known(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        write_output(tmp_path / name, f"{name},1\n")
    write_output(tmp_path / "b.csv", "made again\n")
    (tmp_path / "foreign.csv").write_text("x")
    assert changed_outputs(tmp_path) == []
    (tmp_path / "a.csv").write_text("a.csv,2\n")
    (tmp_path / "c.csv").unlink()
    assert changed_outputs(tmp_path) == [tmp_path / "a.csv"]
    assert changed_outputs(tmp_path / "none") == []
    sums = (tmp_path / ".sha256").read_text()
    assert (
        subprocess.run(
            ["sha256sum", "--check", "--ignore-missing", "--quiet", ".sha256"],
            cwd=tmp_path,
            capture_output=True,
        ).returncode
        == 1
    )
    (tmp_path / ".sha256").write_bytes(b"\xff\x00garbage  ../b.csv\n" + sums.encode())
    assert changed_outputs(tmp_path) == [tmp_path / "a.csv"]
