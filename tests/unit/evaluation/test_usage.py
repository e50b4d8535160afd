"""What calls take beside time, and the table of how scripts serve."""

from __future__ import annotations

import pytest

from diffaccel.evaluation.pairs import latencies, timing_of
from diffaccel.evaluation.records import GIB, SpeedRow, Usage
from diffaccel.evaluation.usage import ENERGY_SECONDS, Meter, Total
from diffaccel.experiment.grid import Configuration
from diffaccel.machine.devices import Device
from diffaccel.stages import serving
from diffaccel.stages.records import ScriptResult, Served, Verification

MIB = 1 << 20
CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 8)


def test_the_most_memory_is_that_of_the_call_alone() -> None:
    """Neither what was there before and is gone, nor what comes later."""

    def peak(mib: int) -> int:
        meter = Meter(Device("cpu"), None)
        with meter.running():
            bytearray(b"x" * (mib * MIB))
        assert meter.usage.device_bytes is None and meter.usage.joules is None
        assert meter.usage.host_bytes is not None
        return meter.usage.host_bytes

    small, large, again = peak(1), peak(400), peak(1)
    # `b"x" * n` and its copy are there at once.
    assert large - small > 700 * MIB
    assert again - small < 100 * MIB


def test_energy_is_told_where_calls_are_long_enough() -> None:
    total = Total()
    total.add(Usage(device_bytes=5, host_bytes=7, joules=7.5), 0.6 * ENERGY_SECONDS)
    assert total.usage() == Usage(5, 7, None)
    total.add(Usage(device_bytes=9, host_bytes=1, joules=12.5), 0.6 * ENERGY_SECONDS)
    assert total.usage() == Usage(9, 7, 10.0)
    assert Total().usage() is None


def test_the_memory_that_is_short() -> None:
    assert Usage(device_bytes=5, host_bytes=7).memory == 5
    assert Usage(host_bytes=7).memory == 7
    assert Usage.of([None, Usage(host_bytes=7), Usage(device_bytes=5)]) == Usage(5, 7)
    assert Usage.of([None]) is None


def test_latencies() -> None:
    assert latencies([1.0, 2.0, 9.0]) == (2.0, 9.0)
    assert latencies([*range(1, 201)]) == (100.5, 199.0)


def verdict(name: str, script: str) -> ScriptResult:
    nothing = {"reason": "", "required": 1.1, "max_seconds_per_image": None, "max_loss": 0.1}
    return ScriptResult(
        **{"id": name, "script": script, "outcome": "met", "confidence": 0.95, **nothing},
        **{"reported_speedup": 2.0, "reported_loss": 0.0, "speedup": 2.0, "loss": 0.0},
        **{"seconds_per_image": 0.5, "loss_interval": (0.0, 0.0), "timing": None, "means": {}},
        **{"same_scores": True, "date": ""},
    )


def row(interval: int, plain: float, own: float, *, memory: int = 4) -> SpeedRow:
    timing = timing_of([(plain, own), (plain, own), (plain * 1.1, own * 1.1)])
    parameters = {"deepcache": {"cache_interval": interval, "cache_branch_id": 0}}
    taken = Usage(device_bytes=memory * GIB, joules=12.5)
    plain_taken = Usage(device_bytes=2 * memory * GIB, joules=25.0)
    return SpeedRow(parameters, timing, None, 1.0, "", usage=taken, baseline_usage=plain_taken)


def test_the_table_of_how_scripts_serve() -> None:
    failed = SpeedRow({"tome": {"ratio": 0.5}}, None, None, 0.0, "", "not enough memory")
    served = [
        Served("a", 1, row(2, 1.0, 0.5)),
        Served("a", 4, row(2, 4.0, 1.0, memory=8)),
        Served("b", 4, failed),
    ]
    verdicts = [verdict("one", "a"), verdict("two", "a"), verdict("three", "b")]
    verification = Verification(CONFIGURATION, verdicts, [], served, 4)
    assert verification.own("a") == served[1] and verification.own("c") is None
    table = serving.table([verification])
    assert list(table.columns) == list(serving.COLUMNS)
    assert list(table["batch_size"]) == [1, 1, 4, 4, 4]
    plain, first = table.iloc[0], table.iloc[1]
    assert (plain["accelerators"], plain["ids"]) == ("", "")
    assert (first["accelerators"], first["ids"]) == ("DeepCache", "one two")
    assert (first["latency_p50"], first["calls"]) == (0.5, 3)
    assert first["latency_p99"] == pytest.approx(0.55)
    assert first["images_per_second"] == pytest.approx(3 / 1.55)
    assert (first["device_gib"], plain["device_gib"], first["joules_per_image"]) == (4, 8, 12.5)
    fourth = table.iloc[3]
    assert fourth["images_per_second"] == pytest.approx(4 * 3 / 3.1)
    assert (fourth["speedup"], table.iloc[4]["problem"]) == (4.0, "not enough memory")
    said = serving.columns(verification.own("a"))
    assert said["latency_p50"] == 1.0 and said["device_gib"] == 8
    assert set(serving.columns(None).values()) == {None}
