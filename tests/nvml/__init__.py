"""GPUs that are none, for machines that have none: see `pynvml.py` beside this."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from diffaccel.machine import gpus, locks
from tests.nvml import pynvml

HERE = Path(__file__).parent


def board(number: int, name: str, **more: Any) -> dict[str, Any]:
    """A GPU, by its place on the bus.

    Args:
        more: ``mig``: names of its instances; ``using``: processes; ``permitted``.
    """
    return {"name": name, "uuid": f"GPU-{number}{number}{number}", "bus": number, **more}


def fake_gpus(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *boards: dict[str, Any] | str,
    fails: str = "",
) -> None:
    """A machine with these, or with GPUs of these names, for this process and those that it
    starts, and with locks of its own.

    Args:
        fails: name of the error that starting NVML ends with.
    """
    made = [board(i, each) if isinstance(each, str) else each for i, each in enumerate(boards)]
    (folder / "gpus.json").write_text(json.dumps({"boards": made, "fails": fails}))
    monkeypatch.setenv(pynvml.MACHINE, str(folder / "gpus.json"))
    monkeypatch.setattr(gpus, "pynvml", pynvml)
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv(locks.OWN, str(folder / "locks"))
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def used(boards: Sequence[str], *using: tuple[int, int]) -> list[dict[str, Any]]:
    """GPUs of these names, and processes that use them: (GPU, process)."""
    return [
        board(i, name, using=[pid for number, pid in using if number == i])
        for i, name in enumerate(boards)
    ]
