"""`diffaccel store`: what is there, whether it is whole, merged, exported."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaccel.cli import main
from diffaccel.errors import InputError
from diffaccel.evaluation import keys
from diffaccel.evaluation.bench import save_images
from diffaccel.evaluation.gallery import Gallery
from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import Baseline, Evaluation, SpeedRow, TimingRow
from diffaccel.evaluation.scores import image_digests
from diffaccel.experiment.grid import Configuration
from diffaccel.plugins.space import ParametersDict
from diffaccel.report.blind.preference import preferences
from diffaccel.report.blind.records import Comparison, journal_of
from diffaccel.run import stores
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import SCHEMA, digest, write_output, write_record
from tests.store import baseline, deepcache, measurement, write

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
NAME = f"{CONFIGURATION.slug}.json"


def record(seed: int = 0) -> tuple[Baseline, np.ndarray]:
    made = baseline(CONFIGURATION)
    images = np.random.default_rng(0).integers(0, 255, (len(made.prompts), 8, 8, 3), np.uint8)
    fingerprint = {"model": "m", "options": str(seed), "configuration": "s"}
    found = replace(
        made,
        fingerprint=fingerprint,
        digest=digest(fingerprint),
        image_digests=image_digests(images),
        options=replace(made.options, seed=seed),
    )
    return found, images


def evaluation(interval: int, loss: float = 0.01, prompts: int = 4) -> Evaluation:
    scores = {"clip_score": [80.0 - loss] * prompts}
    parameters = deepcache(interval)
    return Evaluation(
        parameters, loss, (0.0, 0.02), scores, {"clip_score": 79.0}, 1.0, 2.0, "2026-11-21"
    )


def timing(parameters: ParametersDict, speedup: float) -> SpeedRow:
    pairs = [(speedup * each, each) for each in (1.0, 1.01, 0.99)]
    return SpeedRow(parameters, timing_of(pairs), 1.0, 3.0, "2026-11-21T10:00:00Z")


def store(results: Path, seed: int = 0) -> Path:
    """A platform with one configuration: two evaluations, a timing."""
    folder, (made, images) = results / "cpu", record(seed)
    write(results, CONFIGURATION, {("deepcache",): [measurement(deepcache(3), 2.0, 0.01)]})
    write_record(folder / "baseline" / NAME, made)
    save_images(folder / "baseline" / CONFIGURATION.slug, images)
    write_output(folder / "code/task.py", "print()\n")
    for row in (evaluation(2), evaluation(3)):
        evaluated(folder, made).append(row)
    timed(folder, made).append(TimingRow(made.digest, made.pipeline, timing(deepcache(3), 2.0)))
    return folder


def evaluated(folder: Path, made: Baseline) -> Journal[Evaluation]:
    return keys.evaluated(folder / "journal", made, f"{CONFIGURATION.slug}_deepcache")


def timed(folder: Path, made: Baseline) -> Journal[TimingRow]:
    return keys.timed(folder / "journal", made)


def call(*words: object) -> int:
    """Exit status."""
    try:
        main(["store", *map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store(tmp_path)
    evaluated(folder, record(seed=1)[0]).append(evaluation(5))
    assert call("list", tmp_path, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["platform"], row["configuration"]) == ("cpu", CONFIGURATION.slug)
    assert (row["evaluations"], row["timed"], row["verify"], row["stale"]) == (3, 1, 0, 1)
    assert row["last"] == "2026-11-21T10:00:00Z"
    assert call("list", tmp_path) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.startswith("platform  configuration") and line.startswith(
        "cpu       mini-SD1.5_DDIM_20"
    )


def test_what_has_no_results_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert call("list", tmp_path) == 2
    assert f"{tmp_path}: no results of any platform" in caplog.text


def test_logs_in_a_store_are_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They lie in folders of the same names."""
    folder = store(tmp_path)
    write_record(folder / "search" / NAME, search_of(tmp_path))
    (folder / "logs/baseline").mkdir(parents=True)
    (folder / "logs/baseline" / NAME).write_text("{}\n")
    for given in (tmp_path, folder):
        assert call("check", given) == 0
        capsys.readouterr()
        assert call("list", given, "--json") == 0
        assert len(json.loads(capsys.readouterr().out)) == 1


DAMAGE = {
    f"baseline/{NAME}": "changed after it was written",
    f"search/{NAME}": "changed after it was written",
    f"baseline/{CONFIGURATION.slug}/000.png": "",
    "code/task.py": "changed after it was written",
    "journal/timed/mini-SD1.5.jsonl": "mini-SD1.5.jsonl:2: changed after it was written",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_check_names_what_was_edited(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store(tmp_path) / name
    write_record(tmp_path / f"cpu/search/{NAME}", search_of(tmp_path))
    assert call("check", tmp_path) == 0
    content = path.read_bytes()
    if path.suffix == ".png":
        path.write_bytes(content[: len(content) // 2])
    else:
        digits = (b'"shuffled_score": 10.0', b'"loss": 0.01', b'"spent": 3.0', b"print()")
        old = next(each for each in digits if each in content)
        path.write_bytes(content.replace(old, old[:-1] + b"7", 1))
    assert call("check", tmp_path) == 1
    line = capsys.readouterr().out.splitlines()[0]
    where = path.parent if path.suffix == ".png" else path
    assert str(where) in line and DAMAGE[name] in line


def search_of(results: Path) -> Any:
    """The search, as decided beside the baseline that is there."""
    from diffaccel.search.records import Search
    from diffaccel.store.jsonio import read_record

    found = read_record(Search, results / f"cpu/search/{NAME}")
    return replace(found, cells=[replace(cell, baseline=record()[0].whole) for cell in found.cells])


def test_check_names_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store(tmp_path)
    write_record(folder / "search" / NAME, search_of(tmp_path))
    path = folder / "baseline" / NAME
    content = json.loads(path.read_text())
    content["spec"]["height"] = "tall"
    path.write_text(json.dumps(content))
    assert call("check", tmp_path) == 1
    said = capsys.readouterr().out
    assert f"{path}: spec.height" in said and "'tall'" in said
    path.write_text('{"schema": 1,')
    call("check", tmp_path)
    assert f"{path}: not JSON" in capsys.readouterr().out


def test_what_is_damaged_is_set_aside(tmp_path: Path) -> None:
    folder = store(tmp_path)
    write_record(folder / "search" / NAME, search_of(tmp_path))
    assert stores.set_aside(folder) == []
    for name in (f"search/{NAME}", "code/task.py"):
        (folder / name).write_text("{")
    assert {each.path.name for each in stores.set_aside(folder)} == {NAME, "task.py"}
    assert (folder / f"search/{NAME}.aside").read_text() == "{"
    assert not (folder / "code/task.py").exists() and (folder / f"baseline/{NAME}").exists()
    assert stores.set_aside(folder) == []


def test_what_may_have_passed_is_tried_again(tmp_path: Path) -> None:
    folder = store(tmp_path)
    found, path = search_of(tmp_path), folder / "search" / NAME
    baseline = folder / "baseline" / NAME
    for passing in (0, 1):
        cells = [replace(cell, passing=passing) for cell in found.cells]
        write_record(path, replace(found, cells=cells))
        stores.try_again(folder)
        assert (path.stat().st_mtime < baseline.stat().st_mtime) is bool(passing)
        assert path.stat().st_mtime > 0  # which snakemake takes for no time


def test_one_run_holds_a_store(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from diffaccel.run.stores import hold\n"
    code += "hold(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with stores.hold(tmp_path):
        done = subprocess.run(command, capture_output=True, text=True)
        assert f"another run writes to {tmp_path}; wait for it" in done.stderr
    assert subprocess.run(command).returncode == 0


def test_merging_into_nothing_copies_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = store(tmp_path / "theirs")
    write_record(theirs / "search" / NAME, search_of(tmp_path / "theirs"))
    own = tmp_path / "own"
    assert call("merge", tmp_path / "theirs", "--into", own) == 0
    assert "2 rows into" in capsys.readouterr().out
    for name in (
        f"baseline/{NAME}",
        f"search/{NAME}",
        f"journal/evaluations/{CONFIGURATION.slug}_deepcache.jsonl",
    ):
        assert (own / "cpu" / name).read_bytes() == (theirs / name).read_bytes()
    assert call("check", own) == 0
    assert call("merge", tmp_path / "theirs", "--into", own) == 0
    assert "rows into" not in capsys.readouterr().out.split("all is as")[-1]


def test_merging_adds_what_is_new_and_decides_again(tmp_path: Path) -> None:
    own, theirs = store(tmp_path / "own"), store(tmp_path / "theirs")
    made, _ = record()
    evaluated(theirs, made).append(evaluation(5))
    evaluated(theirs, made).append(replace(evaluation(2, prompts=6), loss=0.012))  # gone on with
    search = own / "search" / NAME
    before = search.stat().st_mtime_ns
    assert call("merge", tmp_path / "theirs", "--into", tmp_path / "own") == 0
    found = evaluated(own, made).rows()
    assert [each.parameters["deepcache"]["cache_interval"] for each in found] == [2, 3, 5, 2]
    assert found[-1].prompts == 6
    assert (own / "baseline" / NAME).stat().st_mtime_ns > before
    assert search.stat().st_mtime_ns == before


def test_conflicts_are_shown_and_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, theirs = store(tmp_path / "own"), store(tmp_path / "theirs")
    made, _ = record()
    shutil.rmtree(theirs / "journal")
    evaluated(theirs, made).append(evaluation(2, loss=0.5))
    evaluated(theirs, made).append(replace(evaluation(3), failure="out of memory"))
    timed(theirs, made).append(TimingRow(made.digest, made.pipeline, timing(deepcache(3), 4.0)))
    other = replace(made, scores={"clip_score": [1.0] * len(made.prompts)})
    write_record(theirs / "baseline" / NAME, other)
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    assert call("merge", tmp_path / "theirs", "--into", tmp_path / "own") == 1
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("conflict")]
    assert len(said) == 4
    for each in (
        "other clip_score of the same images",
        "here: it works; there: out of memory",
        "2.00x here, 4.00x there",
        "theirs has other images or scores of the same",
    ):
        assert any(each in line for line in said), each
    kept = {path: content for path, content in before.items() if path.name != ".lock"}
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_metric_that_one_of_them_has_not_is_no_conflict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path / "own")
    theirs, (made, _) = store(tmp_path / "theirs"), record()
    more = replace(made, scores={**made.scores, "new": [1.0] * len(made.prompts)})
    write_record(theirs / "baseline" / NAME, more)
    assert call("merge", tmp_path / "theirs", "--into", tmp_path / "own") == 0
    assert "conflict" not in capsys.readouterr().out


def test_another_baseline_is_a_conflict_and_its_rows_are_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = store(tmp_path / "own")
    store(tmp_path / "theirs", seed=1)
    assert call("merge", tmp_path / "theirs", "--into", tmp_path / "own") == 1
    assert "theirs was measured with another options" in capsys.readouterr().out
    assert len(evaluated(own, record()[0]).rows()) == 2
    assert len(evaluated(own, record(seed=1)[0]).rows()) == 2


def test_a_broken_store_is_merged_without_what_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = store(tmp_path / "theirs")
    path = evaluated(theirs, record()[0]).path
    path.write_bytes(path.read_bytes().replace(b'"loss": 0.01', b'"loss": 0.00', 1)[:-30])
    (theirs / "search" / NAME).write_text("{")
    assert call("merge", tmp_path / "theirs", "--into", tmp_path / "own") == 0
    said = capsys.readouterr().out
    assert f"left out: {path}:2: changed" in said and f"left out: {path}:3: " in said
    assert "search" in said and not (tmp_path / f"own/cpu/search/{NAME}").exists()
    assert call("check", tmp_path / "own") == 0


def test_merging_a_store_into_itself_is_refused(tmp_path: Path) -> None:
    store(tmp_path)
    assert call("merge", tmp_path, "--into", tmp_path) == 2


def test_export(tmp_path: Path) -> None:
    store(tmp_path)
    assert call("export", tmp_path, "--out", tmp_path / "rows.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["evaluations", "evaluations", "timed"]
    first, last = rows[0], rows[-1]
    assert first["model"] == "mini-SD1.5" and first["loss"] == 0.01 and first["prompts"] == 4
    assert last["speedup"] == pytest.approx(2.0) and last["current"] is True
    for row in rows:
        assert row["schema"] == SCHEMA and row["seed"] == 0 and row["dtype"] == "float32"
        assert row["version_torch"] == "2.13.0" and row["hash_model"] == "m"
    assert call("export", tmp_path, "--kind", "timed", "--out", tmp_path / "rows.csv") == 0
    with (tmp_path / "rows.csv").open(newline="") as file:
        (only,) = csv.DictReader(file)
    assert json.loads(only["parameters"]) == deepcache(3) and float(only["speedup"]) == 2.0


def compare(folder: Path, made: Baseline, verdict: str, judge: str, prompt: int = 0) -> None:
    row = Comparison(
        *(deepcache(3), prompt, "x", "y", "baseline", verdict),
        *(1, "2026-11-30T10:00:00Z", judge),
    )
    journal_of(folder / "journal", made).append(row)


def test_merging_takes_over_what_people_said_and_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who says something else does not contradict: the lines of both are kept."""
    own, theirs = store(tmp_path / "own"), store(tmp_path / "theirs")
    made, images = record()
    compare(own, made, "better", "a")
    compare(theirs, made, "worse", "b")
    compare(theirs, made, "worse", "b", 1)
    write_record(own / "search" / NAME, search_of(tmp_path / "own"))
    Gallery.beside(theirs / "journal", made).keep(deepcache(3), images)
    for _ in range(2):
        assert call("merge", tmp_path / "theirs", "--into", tmp_path / "own") == 0
    found = journal_of(own / "journal", made).rows()
    assert [(row.judge, row.verdict, row.prompt) for row in found] == [
        ("a", "better", 0),
        ("b", "worse", 0),
        ("b", "worse", 1),
    ]
    said = preferences(own / "journal", made)[digest(deepcache(3))]
    assert (said.better, said.same, said.worse, said.judges) == (0, 1, 1, 2)
    assert len(Gallery.beside(own / "journal", made).paths(deepcache(3))) == len(images[:4])
    capsys.readouterr()
    assert call("list", own, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["comparisons"] == 3
    out = tmp_path / "rows.jsonl"
    assert call("export", own, "--kind", "comparisons", "--out", out) == 0
    first, *_ = (json.loads(line) for line in out.read_text().splitlines())
    assert (first["judge"], first["verdict"], first["prompt"]) == ("a", "better", 0)
    assert call("check", own) == 0
    path = own / "journal" / "comparisons" / f"{CONFIGURATION.slug}.jsonl"
    path.write_text(path.read_text().replace('"better"', '"worse"'))
    assert call("check", own) == 1, "a verdict that was edited is noticed"


def test_a_store_that_is_in_use_is_not_merged_into(tmp_path: Path) -> None:
    store(tmp_path / "theirs")
    with stores.hold(tmp_path / "own/cpu"), pytest.raises(InputError, match="another run writes"):
        from diffaccel.run.merging import merge

        merge(tmp_path / "theirs", tmp_path / "own")
