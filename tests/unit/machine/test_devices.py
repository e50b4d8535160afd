"""Names of hardware, and that two timed jobs never hold one device."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from diffaccel.errors import InputError
from diffaccel.evaluation.bench import take_device
from diffaccel.machine import devices, locks, threads
from diffaccel.plugins.models import known_models
from tests.nvml import fake_gpus, used

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Holding a device sets what CUDA is told, for the whole process: no other test is to see it.

    It ends after `monkeypatch`, which puts back what it found, even where that was set here.
    """
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


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
from diffaccel.machine.devices import hold_device
with hold_device() as device, device.exclusive():
    start = time.monotonic()
    time.sleep(0.3)
    print(device.name, start, time.monotonic())
"""


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the locks of a machine without GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv(locks.OWN, str(tmp_path / "locks"))
    return tmp_path / "locks"


def holders(count: int) -> list[tuple[str, float, float]]:
    """Processes that each hold a device for a while: (device, from, to)."""
    command = [sys.executable, "-c", HOLD]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    rows = [process.communicate(timeout=60)[0].split() for process in started]
    return sorted(((row[0], float(row[1]), float(row[2])) for row in rows), key=lambda row: row[1])


def test_a_killed_holder_frees_the_device(cpu: Path) -> None:
    command = [sys.executable, "-c", HOLD.replace("0.3", "60")]
    process = subprocess.Popen(command)
    deadline = time.perf_counter() + 30
    while not list(cpu.glob("cpu-core-*.lock")) and time.perf_counter() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert [row[0] for row in holders(1)] == ["cpu"]


SHARE = """
import sys, time
from pathlib import Path
from diffaccel.machine import devices
device = devices.Device(sys.argv[1], Path(sys.argv[2]))
end = time.monotonic() + 1.5
while time.monotonic() < end:
    with getattr(device, sys.argv[3])():
        start = time.monotonic()
        time.sleep(0.05)
        print(start, time.monotonic())
"""
Span = tuple[float, float]


def spans(folder: Path, *how: str) -> list[list[Span]]:
    """When each of some workers that never rest worked."""
    command = [sys.executable, "-c", SHARE, "cuda", str(folder / "device.lock")]
    started = [
        subprocess.Popen([*command, each], stdout=subprocess.PIPE, text=True) for each in how
    ]
    said = [process.communicate(timeout=60)[0].splitlines() for process in started]
    return [[(float(a), float(b)) for a, b in map(str.split, lines)] for lines in said]


def overlap(one: list[Span], other: list[Span]) -> bool:
    return any(a[0] < b[1] and b[0] < a[1] for a in one for b in other)


def test_many_work_at_once_and_nobody_while_one_times(tmp_path: Path) -> None:
    """Workers that never rest do not keep the device from who times."""
    *working, timing = spans(tmp_path, "shared", "shared", "shared", "exclusive")
    assert len(timing) > 3 and all(len(each) > 3 for each in working)
    assert not any(overlap(timing, each) for each in working)
    assert overlap(working[0], working[1])


def test_work_within_work_waits_for_nothing(tmp_path: Path) -> None:
    device = devices.Device("cuda", tmp_path / "gpu-0.lock")
    with device.exclusive(), device.shared(), device.exclusive():
        pass
    with device.shared(), device.shared(), device.exclusive(), device.shared():
        pass


def test_a_long_work_gives_way_where_it_begins_another(tmp_path: Path) -> None:
    """Also to a job that times in the midst of work of its own."""
    code = """
import sys, time
from pathlib import Path
from diffaccel.machine.devices import Device
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


TAKE = """
import os, sys, time
from diffaccel.machine.devices import hold_device
from diffaccel.machine import threads
wanted = int(sys.argv[1])
with hold_device(wanted=wanted):
    start = time.monotonic()
    time.sleep(0.2)
    print(start, time.monotonic(), threads.of(wanted))
"""


@pytest.mark.usefixtures("cpu")
def test_jobs_together_have_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started them, and whatever their models want."""
    monkeypatch.delenv(threads.GIVEN)
    wanted = [1, 0, 1, 2, 1, 1, 100, 1]
    command = [sys.executable, "-c", TAKE]
    started = [
        subprocess.Popen([*command, str(each)], stdout=subprocess.PIPE, text=True)
        for each in wanted
    ]
    rows = [process.communicate(timeout=60)[0].split() for process in started]
    held = [(float(start), float(end), int(count)) for start, end, count in rows]
    for moment, _, _ in held:
        assert sum(n for start, end, n in held if start <= moment < end) <= threads.cores()
    assert [n for _, _, n in held] == [min(n or 100, threads.cores()) for n in wanted]


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_one_more_job_than_the_devices_take_gets_ready(count: int, jobs: int) -> None:
    profile = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())
    assert profile["resources"] == [f"timed={devices.SLOTS}"]
    at_once = devices.SLOTS // devices.slots(count, jobs)
    assert (max(1, count) + 1) * jobs <= at_once <= 1.3 * (max(1, count) + 1) * jobs


def chosen() -> str:
    """The GPU that CUDA was told; of several processes in one, so that it is taken back."""
    assert os.environ.pop("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return os.environ.pop("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("slurm", [None, "4711"])
def test_jobs_of_small_networks_spread_over_the_gpus(
    slurm: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may be on each of two GPUs; the third comes beside the first, the fifth waits. So it is
    within an allocation of Slurm."""
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A")
    if slurm is not None:
        monkeypatch.setenv("SLURM_JOB_ID", slurm)
    found = []
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(devices.hold_device(2))
            found.append(chosen())
        assert found == ["GPU-000", "GPU-111", "GPU-000", "GPU-111"]
        code = "from diffaccel.machine.devices import hold_device; hold_device(2).__enter__()"
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-c", code], timeout=3)


def test_within_an_allocation_each_job_times_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs on the one GPU that Slurm gave."""
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A", "NVIDIA A")
    monkeypatch.setattr(devices, "_import_libraries", lambda: None)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    quick = "from diffaccel.machine import devices\ndevices._import_libraries = lambda: None\n"
    code = quick + HOLD.replace("hold_device()", "hold_device(2)")
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    rows = sorted(process.communicate(timeout=60)[0].split() for process in started)
    first, second = sorted((float(start), float(end)) for _, start, end in rows)
    assert first[1] <= second[0] and {row[0] for row in rows} == {"cuda"}


INIT = 1
"""A process that none of ours started."""


def test_a_gpu_that_others_use_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(tmp_path, monkeypatch, *used(["NVIDIA A", "NVIDIA A"], (0, INIT)))
    for _ in range(2):
        with devices.hold_device() as device:
            assert chosen() == "GPU-111"
            assert device.gpu is not None and device.gpu.uuid == "GPU-111"
            assert device.others() == []


def test_where_others_use_every_gpu_it_is_waited_for_and_then_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, however many jobs may be on it."""
    fake_gpus(tmp_path, monkeypatch, *used(["NVIDIA A"], (0, INIT)))
    monkeypatch.setattr(devices, "PATIENCE", 1.5)
    start = time.monotonic()
    with devices.hold_device(3) as device:
        assert caplog.text.count("others use every GPU") == 1
        assert time.monotonic() - start > 1.5
        assert device.others() == [f"process 1 ({psutil.Process(1).name()})"]
    chosen()


@pytest.mark.long
def test_processes_of_this_program_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from diffaccel.machine.devices import hold_device\nimport time\n"
    code += "with hold_device(2): print('ready', flush=True); time.sleep(60)"
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A")
    command = [sys.executable, "-c", code]
    beside = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert beside.stdout is not None and beside.stdout.readline() == b"ready\n"
        with devices.hold_device(2) as device, subprocess.Popen(["sleep", "60"]) as child:
            chosen()
            using = [(0, os.getpid()), (0, beside.pid), (0, child.pid)]
            fake_gpus(tmp_path, monkeypatch, *used(["NVIDIA A"], *using))
            assert device.others() == []
            fake_gpus(tmp_path, monkeypatch, *used(["NVIDIA A"], *using, (0, INIT)))
            assert [each.split(" (")[0] for each in device.others()] == ["process 1"]
            child.kill()
    finally:
        beside.kill()
        beside.wait()


@pytest.mark.long
def test_one_gpu_by_two_names_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A")
    code = "from diffaccel.machine.devices import hold_device; hold_device().__enter__()"
    with devices.hold_device():
        for name in ("0", "GPU-000"):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
            with pytest.raises(subprocess.TimeoutExpired):
                subprocess.run([sys.executable, "-c", code], timeout=2)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-111")
        subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    chosen()
