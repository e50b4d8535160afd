"""How many threads a job computes on: never more than it is given, and than there are cores."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from diffaccel.evaluation.bench import use_threads
from diffaccel.machine import threads
from diffaccel.machine.devices import Device
from diffaccel.plugins.models import known_models


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of many cores, on which this process may use eight."""
    monkeypatch.delenv(threads.GIVEN, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6, 7, 20, 21, 22, 23})
    monkeypatch.setattr(threads, "_OWN_GROUPS", Path("/none"))
    return monkeypatch


@pytest.mark.parametrize(
    ("wanted", "given", "on_cpu", "on_gpu"),
    [
        (0, None, 8, 1),
        (0, "3", 3, 1),
        (0, "4,2", 4, 1),
        (0, "nonsense", 8, 1),
        (0, "99", 8, 1),
        (2, None, 2, 2),
        (2, "1", 1, 1),
        (99, None, 8, 8),
    ],
)
def test_a_job_has_what_its_model_says_of_what_it_is_given(
    wanted: int, given: str | None, on_cpu: int, on_gpu: int, many: pytest.MonkeyPatch
) -> None:
    if given is not None:
        many.setenv(threads.GIVEN, given)
    assert threads.of(wanted) == on_cpu
    assert threads.of(wanted, gpu=True) == on_gpu


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "9900000 100000"}, 8),
        (
            "3:cpuset:/\n4:cpu,cpuacct:/a",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            "1:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
    ],
)
def test_a_container_that_may_use_less_counts(
    groups: str, files: dict[str, str], cores: int, many: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(groups + "\n")
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content)
    many.setattr(threads, "_OWN_GROUPS", tmp_path / "own")
    many.setattr(threads, "_CGROUPS", tmp_path / "fs")
    assert threads.cores() == cores
    assert threads.numbers() == [4, 5, 6, 7, 20, 21, 22, 23][:cores]


@pytest.mark.parametrize(
    ("wanted", "given", "gpu", "reserved"),
    [(0, 8, False, 8), (2, 8, False, 2), (0, None, False, 1), (0, 8, True, 1), (3, 8, True, 3)],
)
def test_a_rule_reserves_what_its_job_will_use(
    wanted: int, given: int | None, gpu: bool, reserved: int
) -> None:
    assert threads.reserved(wanted, given, gpu=gpu) == reserved


def test_torch_computes_on_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a model wants more than the rule reserved, since the run has fewer cores."""
    import torch

    before = torch.get_num_threads()
    spec = replace(known_models()["mini-SD1.5"], threads=2)
    try:
        monkeypatch.setenv(threads.GIVEN, "1")
        use_threads(spec, Device("cpu"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
