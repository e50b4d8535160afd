"""Which GPUs a process may use, and what they are called: as CUDA does, or a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffaccel.errors import InputError
from diffaccel.machine import devices, gpus
from tests.nvml import board, fake_gpus

MIG = [
    {"name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "uuid": "MIG-aaa"},
    {"name": "NVIDIA A100-SXM4-40GB", "uuid": "MIG-bbb"},  # of an older driver
]
DIVIDED = board(0, "NVIDIA A100-SXM4-40GB", mig=MIG)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two GPUs of a kind."""
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA A")
    return monkeypatch


@pytest.mark.parametrize("hidden", ["", "-1", " ", "NoDevFiles"])
def test_hidden_gpus_make_a_cpu(hidden: str, two: pytest.MonkeyPatch) -> None:
    two.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpus.visible() == [] and devices.platform() == "cpu"


@pytest.mark.parametrize("fails", ["LibraryNotFound", "DriverNotLoaded"])
def test_without_a_driver_there_is_no_gpu(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus(tmp_path, monkeypatch, fails=fails)
    assert devices.platform() == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(InputError, match="'0', which is no GPU that is here"):
        devices.platform()


def test_a_driver_that_does_not_work_is_no_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", fails="LibRmVersionMismatch")
    with pytest.raises(InputError, match="driver, and it does not work: LibRmVersionMismatch"):
        devices.platform()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.platform() == "cpu"


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["0", "1"]),
        ("1", ["1"]),
        ("GPU-000", ["0"]),
        ("GPU-1", ["1"]),
        ("1,0", ["1", "0"]),
        ("1,-1,0", ["1"]),
    ],
)
def test_an_inherited_choice_is_honoured(
    visible: str | None, found: list[str], two: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        two.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.label for gpu in gpus.visible()] == found
    assert devices.platform() == "nvidia-a"


@pytest.mark.parametrize(
    "wrong", ["7", "0,7", "GPU-7", "MIG-000", "0,,1", "nonsense", "GPU-", "-2"]
)
def test_what_names_no_gpu_is_an_error(wrong: str, two: pytest.MonkeyPatch) -> None:
    """CUDA would take those before it, and the CPU where there are none."""
    two.setenv("CUDA_VISIBLE_DEVICES", wrong)
    with pytest.raises(InputError, match=r"CUDA_VISIBLE_DEVICES names .*GPU-000 \(NVIDIA A\)"):
        devices.platform()


@pytest.mark.parametrize("twice", ["0,0", "1,GPU-111"])
def test_a_gpu_named_twice_is_an_error(twice: str, two: pytest.MonkeyPatch) -> None:
    two.setenv("CUDA_VISIBLE_DEVICES", twice)
    with pytest.raises(InputError, match="names a GPU twice"):
        gpus.visible()


def test_different_gpus_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA B")
    with pytest.raises(InputError, match=r"never mix.*CUDA_VISIBLE_DEVICES"):
        devices.platform()


def test_numbers_are_in_the_order_of_the_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order they are listed in. An order that only CUDA knows is refused where it
    matters."""
    fake_gpus(tmp_path, monkeypatch, board(5, "NVIDIA B"), board(2, "NVIDIA A"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [gpu.name for gpu in gpus.visible()] == ["NVIDIA A"]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    with pytest.raises(InputError, match="name GPUs by id, or set CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        gpus.visible()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-555")
    assert [gpu.name for gpu in gpus.visible()] == ["NVIDIA B"]


def test_gpus_that_a_process_may_not_use_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = [board(0, "NVIDIA A", permitted=False), board(1, "NVIDIA B")]
    fake_gpus(tmp_path, monkeypatch, *boards)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # as a scheduler says it
    assert [gpu.name for gpu in gpus.visible()] == ["NVIDIA B"]


def test_what_is_described_is_what_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus(tmp_path, monkeypatch, "NVIDIA A", "NVIDIA B")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.describe() == ("NVIDIA B", "570.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.describe()[0].endswith("cores")


@pytest.mark.parametrize("visible", ["MIG-aaa", "MIG-a"])
def test_an_instance_of_a_divided_gpu_is_a_platform_of_its_own(
    visible: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus(tmp_path, monkeypatch, DIVIDED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.platform() == "nvidia-a100-sxm4-40gb-mig-3g-20gb"
    assert devices.describe()[0] == "NVIDIA A100-SXM4-40GB MIG 3g.20gb"


def test_an_instance_that_the_driver_calls_like_the_whole_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus(tmp_path, monkeypatch, DIVIDED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-bbb")
    assert devices.platform() == "nvidia-a100-sxm4-40gb-mig-3g-20gb"


def test_a_divided_gpu_is_its_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(tmp_path, monkeypatch, DIVIDED)
    assert [(gpu.label, gpu.uuid) for gpu in gpus.visible()] == [
        *(("0:0", "MIG-aaa"), ("0:1", "MIG-bbb"))
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(InputError, match=r"divided .*one of its instances: MIG-aaa, MIG-bbb"):
        gpus.visible()
