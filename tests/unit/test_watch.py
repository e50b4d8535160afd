"""How long a run took, and how far the GPU was used in it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.gpu.watch import Use, used, watched

SMI = """#!/bin/sh
case "$*" in
  *name*) echo "0, NVIDIA H100 80GB HBM3, GPU-1" ;;
  *) while true; do echo 100; echo 50; sleep 0.02; done ;;
esac
"""


def test_without_a_gpu_the_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with watched(tmp_path / "use.csv"):
        time.sleep(0.05)
    found = used(tmp_path / "use.csv")
    assert found.share is None and found.seconds > 0


def test_a_gpu_is_asked_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(SMI)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with watched(tmp_path / "use.csv"):
        time.sleep(0.5)
    found = used(tmp_path / "use.csv")
    assert found.share == pytest.approx(0.75, abs=0.05)
    assert len((tmp_path / "use.csv").read_text().splitlines()) > 4


def test_parts_of_a_run_are_added(tmp_path: Path) -> None:
    path = tmp_path / "use.csv"
    path.write_text("100,0.5,90\n100,1.0,80\n100,1.2,\n250,0.5,10\n250,0.9,20\n")
    assert used(path) == Use(pytest.approx(2.1), 2, pytest.approx(0.5))  # type: ignore[arg-type]
