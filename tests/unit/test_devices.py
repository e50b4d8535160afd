"""Names of hardware, and that two timed jobs never hold one device."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from diffaccel import devices
from diffaccel.bench import take_device
from diffaccel.errors import InputError
from diffaccel.models import known_models

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("NVIDIA GeForce RTX 4090", "nvidia-geforce-rtx-4090"),
        ("../../etc", "etc"),
    ],
)
def test_slug(name: str, slug: str) -> None:
    assert devices.slug(name) == slug


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus_make_a_cpu(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert devices.gpus() == [] and devices.platform() == "cpu"


def fake_gpus(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *names: str,
    using: Sequence[tuple[int, int]] = (),
) -> None:
    """An nvidia-smi that lists these, and processes that use them: (GPU, process)."""
    rows = "".join(f"{i}, {name}, GPU-{i}{i}{i}\\n" for i, name in enumerate(names))
    used = "".join(f"GPU-{i}{i}{i}, {pid}, a program\\n" for i, pid in using)
    tool = folder / "nvidia-smi"
    tool.write_text(
        f"#!/bin/sh\ncase $1 in --query-gpu*) printf '{rows}';; *) printf '{used}';; esac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(devices.tempfile, "tempdir", None)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "found"),
    [(None, ["0", "1"]), ("1", ["1"]), ("GPU-000", ["GPU-000"]), ("1,0", ["1", "0"])],
)
def test_an_inherited_choice_is_honoured(
    visible: str | None, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.visible for gpu in devices.gpus()] == found
    assert devices.platform() == "nvidia-a"


def test_different_gpus_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA B")
    with pytest.raises(InputError, match=r"never mix.*CUDA_VISIBLE_DEVICES"):
        devices.platform()


def test_other_hardware_than_that_of_the_results_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    spec = known_models()["mini-SD1.5"]
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(InputError, match="are for 'nvidia-a' and this machine is 'cpu'"),
    ):
        take_device(stack, spec, "nvidia-a")


HOLD = """
import time
from diffaccel.devices import hold_device
with hold_device() as device, device.exclusive():
    start = time.monotonic()
    time.sleep(0.3)
    print(device.name, start, time.monotonic())
"""


def holders(count: int, folder: Path) -> list[tuple[str, float, float]]:
    """Processes that each hold a device for a while: (device, from, to)."""
    environment = os.environ | {"TMPDIR": str(folder)}
    environment.pop("SLURM_JOB_ID", None)
    command = [sys.executable, "-c", HOLD]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    rows = [process.communicate(timeout=60)[0].split() for process in started]
    return sorted(((row[0], float(row[1]), float(row[2])) for row in rows), key=lambda row: row[1])


def test_timed_jobs_on_a_cpu_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    held = holders(3, tmp_path)
    assert {row[0] for row in held} == {"cpu"}
    assert all(held[i][2] <= held[i + 1][1] for i in range(2))


def test_a_killed_holder_frees_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", HOLD.replace("0.3", "60")]
    process = subprocess.Popen(command, env=environment)
    lock = tmp_path / f"diffaccel-{os.getuid()}" / "cpu.lock"
    deadline = time.perf_counter() + 30
    while not lock.exists() and time.perf_counter() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert [row[0] for row in holders(1, tmp_path)] == ["cpu"]


SHARE = """
import sys, time
from pathlib import Path
from diffaccel.devices import Device
device = Device("cuda", Path(sys.argv[1]))
end = time.monotonic() + 1.5
while time.monotonic() < end:
    with getattr(device, sys.argv[2])():
        start = time.monotonic()
        time.sleep(0.05)
        print(start, time.monotonic())
"""


def test_on_a_gpu_many_draw_at_once_and_nobody_while_one_is_on_the_clock(tmp_path: Path) -> None:
    """Workers that never rest do not keep the clock from anybody."""
    how = ["shared", "shared", "shared", "exclusive"]
    command = [sys.executable, "-c", SHARE, str(tmp_path / "gpu-0.lock")]
    started = [
        subprocess.Popen([*command, each], stdout=subprocess.PIPE, text=True) for each in how
    ]
    spans = [
        [
            tuple(map(float, line.split()))
            for line in process.communicate(timeout=60)[0].splitlines()
        ]
        for process in started
    ]
    *drawing, timing = spans
    assert len(timing) > 3 and all(len(each) > 3 for each in drawing)
    for start, end in timing:
        assert not [span for each in drawing for span in each if span[0] < end and start < span[1]]
    first, second = drawing[:2]
    assert any(a[0] < b[1] and b[0] < a[1] for a in first for b in second)


def test_work_within_work_waits_for_nothing(tmp_path: Path) -> None:
    device = devices.Device("cuda", tmp_path / "gpu-0.lock")
    with device.exclusive(), device.shared(), device.exclusive():
        pass
    with device.shared(), device.shared(), device.exclusive(), device.shared():
        pass


def test_a_long_work_gives_way_where_it_begins_another(tmp_path: Path) -> None:
    """Also to a job that is on the clock in the midst of work of its own."""
    code = """
import sys, time
from pathlib import Path
from diffaccel.devices import Device
device = Device("cuda", Path(sys.argv[1]))
with device.shared():
    for _ in range(20):
        with device.shared():
            time.sleep(0.05)
    with device.exclusive():
        print(time.monotonic())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "gpu-0.lock")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_one_more_job_than_the_devices_take_gets_ready(count: int, jobs: int) -> None:
    profile = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())
    assert profile["resources"] == [f"timed={devices.PLACES}"]
    at_once = devices.PLACES // devices.places(count, jobs)
    assert (max(1, count) + 1) * jobs <= at_once <= 1.3 * (max(1, count) + 1) * jobs


def test_jobs_of_small_networks_spread_over_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may be on each of two GPUs; the third comes beside the first, the fifth waits."""
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A")
    chosen = []
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(devices.hold_device(2))
            chosen.append(os.environ.pop("CUDA_VISIBLE_DEVICES"))
        assert chosen == ["0", "1", "0", "1"]
        code = "from diffaccel.devices import hold_device; hold_device(2).__enter__()"
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-c", code], timeout=3)


INIT = 1
"""A process that none of ours started."""


def test_a_gpu_that_others_use_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A", using=[(0, INIT)])
    for _ in range(2):
        with devices.hold_device() as device:
            assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1"
            assert device.gpu is not None and device.gpu.uuid == "GPU-111"
            assert device.others() == []


def test_where_others_use_every_gpu_it_is_waited_for_and_then_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", using=[(0, INIT)])
    monkeypatch.setattr(devices, "PATIENCE", 1.5)
    start = time.monotonic()
    with devices.hold_device() as device:
        assert time.monotonic() - start > 1.5
        assert device.others() == ["process 1 (a program)"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


def test_processes_of_this_program_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from diffaccel.devices import hold_device\nimport time\n"
    code += "with hold_device(2): print('ready', flush=True); time.sleep(60)"
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A")
    command = [sys.executable, "-c", code]
    beside = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert beside.stdout is not None and beside.stdout.readline() == b"ready\n"
        with devices.hold_device(2) as device, subprocess.Popen(["sleep", "60"]) as child:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
            using = [(0, os.getpid()), (0, beside.pid), (0, child.pid)]
            fake_gpus(tmp_path, monkeypatch, "NVIDIA A", using=using)
            assert device.others() == []
            fake_gpus(tmp_path, monkeypatch, "NVIDIA A", using=[*using, (0, INIT)])
            assert device.others() == ["process 1 (a program)"]
            child.kill()
    finally:
        beside.kill()
        beside.wait()


def test_one_gpu_by_two_names_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A")
    code = "from diffaccel.devices import hold_device; hold_device().__enter__()"
    with devices.hold_device():
        for name in ("0", "GPU-000"):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
            with pytest.raises(subprocess.TimeoutExpired):
                subprocess.run([sys.executable, "-c", code], timeout=2)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-111")
        subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
