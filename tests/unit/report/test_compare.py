"""Two runs side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from diffaccel.cli import main
from diffaccel.errors import InputError
from diffaccel.evaluation.pairs import timing_of
from diffaccel.evaluation.records import Measurement
from diffaccel.experiment.grid import Configuration
from diffaccel.report import page
from diffaccel.report.page.compare import Run, pairs
from tests import store

CONFIGURATION, OTHER = (
    Configuration("mini-SD1.5", "DDIM", 20),
    Configuration("mini-SD1.5", "DDIM", 25),
)
CACHE, GATE = ("deepcache",), ("tgate",)


def timed(measured: Measurement, *ratios: float) -> Measurement:
    return dataclasses.replace(measured, timing=timing_of([(each, 1.0) for each in ratios]))


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    cached = store.measurement(store.deepcache(3), 2.0, 0.004)
    noisy = timed(cached, 1.9, 2.0, 2.1)
    faster = timed(dataclasses.replace(cached, speedup=2.05), 2.0, 2.05, 2.1)
    gated = timed(store.measurement(store.tgate(9), 1.5, 0.001), 1.5, 1.5, 1.5)
    slower = timed(dataclasses.replace(gated, speedup=1.3), 1.3, 1.3, 1.3)
    store.write(tmp_path / "a", CONFIGURATION, {CACHE: [noisy], GATE: [gated]})
    store.write(tmp_path / "b", CONFIGURATION, {CACHE: [faster], GATE: [slower]})
    store.write(tmp_path / "b", OTHER, {CACHE: [noisy]})
    return tmp_path / "a" / "cpu", tmp_path / "b" / "cpu"


def test_only_what_the_clock_tells_apart_differs(runs: tuple[Path, Path]) -> None:
    both, alone = pairs(*map(Run.read, runs))
    assert (both.configuration, alone.configuration) == (CONFIGURATION, OTHER)
    differ = {row.accelerators: row.differ for row in both.rows}
    assert differ == {"DeepCache": False, "T-Gate": True}
    (row,) = alone.rows
    assert row.first is None and row.second is not None and not row.differ
    assert alone.seconds[0] is None and alone.seconds[1] is not None


def test_the_page_names_both(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", *map(str, runs)])
    text = (runs[0] / "compared.html").read_text(encoding="utf-8")
    assert "1 of 3 answers differ" in text and str(runs[1]) in text
    assert "2.05x" in text and "not searched" in text
    assert "Limit of the loss" not in text, "a run without the configuration has no other limit"
    out = page.write_compared(*runs, runs[0].parent / "other.html")
    assert out.read_text(encoding="utf-8") == text


def test_what_cannot_be_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no search to compare"):
        page.write_compared(runs[0], tmp_path / "nothing")
    for wrong in ([*runs, runs[0]], [runs[0], tmp_path]):
        with pytest.raises(SystemExit) as done:
            main(["report", *map(str, wrong)])
        assert done.value.code == 2
