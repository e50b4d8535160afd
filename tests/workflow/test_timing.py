"""The clock on the embedded model: it tells a faster pipeline from the same one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from diffaccel import bench as benches
from diffaccel.accelerators import combination
from diffaccel.devices import Device
from diffaccel.grid import Setup
from diffaccel.measure import Candidate, Generate, measure
from diffaccel.models import known_models
from diffaccel.records import MeasureOptions


@pytest.mark.timing
def test_skipping_most_of_the_work_reads_faster_than_skipping_none() -> None:
    spec = replace(known_models()["mini-SD1.5"], batch_size=2)
    options = MeasureOptions(prompts=4, pairs=3, max_pairs=5)
    bench = benches.open_bench(Setup("mini-SD1.5", "DDIM", 10), spec, options, Device("cpu"))
    baseline, images = benches.run_baseline(bench)
    setting = {"deepcache": {"cache_interval": 5, "cache_branch_id": 0}}

    @contextlib.contextmanager
    def skipping() -> Iterator[Generate]:
        with combination(["deepcache"]).applied(bench.pipe, setting) as call:
            yield bench.calling(call)

    both = [Candidate({}, bench.plain), Candidate(setting, skipping)]
    same, faster = measure(bench, baseline, images, both)
    assert same.loss == 0 and same.means["psnr"] == 100
    # Four of five steps leave out nearly all of the network.
    assert faster.speedup > 1.2 * same.speedup
    assert faster.means["psnr"] < 100
