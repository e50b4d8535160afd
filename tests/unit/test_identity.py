"""A change of anything that determines a measurement makes another digest, and no row of the old
one is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffaccel.bench import check_same, identity_of, versions
from diffaccel.devices import Device
from diffaccel.errors import InputError
from diffaccel.grid import Setup
from diffaccel.journal import Journal
from diffaccel.jsonio import digest
from diffaccel.measure import Bench
from diffaccel.records import Environment, MeasureOptions, ModelSpec, SpeedRow

Change = Callable[[Bench, Environment], tuple[Bench, Environment]]


def made(folder: Path) -> tuple[Bench, Environment]:
    for name in ("model", "scorer", "vae", "config"):
        (folder / name).mkdir()
        (folder / name / "weights.safetensors").write_bytes(b"weights of " + name.encode())
    spec = ModelSpec(
        "m",
        "SD1.5",
        str(folder / "model"),
        64,
        64,
        7.5,
        2,
        str(folder / "scorer"),
        "prompts.txt",
        config=str(folder / "config"),
        vae=str(folder / "vae"),
    )
    setup, options = Setup("m", "DDIM", 20), MeasureOptions()
    bench = Bench(None, setup, spec, options, ["a", "b"], Device("cpu"), {})  # type: ignore[arg-type]
    return bench, Environment("cpu", "CPU", "1.0", "float32", "AttnProcessor", 1, versions())


def spec_with(**changes: Any) -> Change:
    return lambda bench, where: (replace(bench, spec=replace(bench.spec, **changes)), where)


def setup_with(**changes: Any) -> Change:
    return lambda bench, where: (replace(bench, setup=replace(bench.setup, **changes)), where)


def options_with(**changes: Any) -> Change:
    return lambda bench, where: (replace(bench, options=replace(bench.options, **changes)), where)


def where_with(**changes: Any) -> Change:
    return lambda bench, where: (bench, replace(where, **changes))


def version_of(package: str) -> Change:
    return lambda bench, where: (
        bench,
        replace(where, versions={**where.versions, package: "another"}),
    )


def file_of(field: str) -> Change:
    def change(bench: Bench, where: Environment) -> tuple[Bench, Environment]:
        path = Path(getattr(bench.spec, field)) / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        return bench, where

    return change


CHANGES: dict[str, Change] = {
    **{f"files of {field}": file_of(field) for field in ("source", "scorer", "vae", "config")},
    "scorer's id": spec_with(scorer="owner/other@1"),
    "variant": spec_with(variant="fp16"),
    "height": spec_with(height=128),
    "width": spec_with(width=128),
    "guidance": spec_with(guidance_scale=3.0),
    "batch": spec_with(batch_size=4),
    "scheduler": setup_with(scheduler="DPM-Solver++"),
    "steps": setup_with(steps=25),
    "prompts": lambda bench, where: (replace(bench, prompts=["a", "c"]), where),
    "fewer prompts": lambda bench, where: (replace(bench, prompts=["a"]), where),
    "order of prompts": lambda bench, where: (replace(bench, prompts=["b", "a"]), where),
    "seed": options_with(seed=1),
    "pairs": options_with(pairs=5),
    "confidence": options_with(confidence=0.9),
    "platform": where_with(platform="nvidia-a"),
    "device": where_with(device="another CPU"),
    "driver": where_with(driver="2.0"),
    "dtype": where_with(dtype="float16"),
    "attention": where_with(attention="AttnProcessor2_0"),
    "threads": where_with(threads=2),
    **{f"version of {name}": version_of(name) for name in versions()},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_input_reuses_no_row(name: str, tmp_path: Path) -> None:
    bench, where = made(tmp_path)
    before = digest(identity_of(bench, where))
    row = SpeedRow({}, None, None, 1.0, "2026-11-21")
    Journal(tmp_path / "j", before, SpeedRow).append(row)
    assert Journal(tmp_path / "j", digest(identity_of(bench, where)), SpeedRow).rows() == [row]
    after = digest(identity_of(*CHANGES[name](bench, where)))
    assert Journal(tmp_path / "j", after, SpeedRow).rows() == []


def test_versions_name_all_that_a_measurement_depends_on() -> None:
    assert {"diffaccel", "torch", "diffusers", "transformers", "torchmetrics"} <= versions().keys()
    assert {"DeepCache", "tgate", "tomesd"} <= versions().keys()


def test_a_name_or_a_path_alone_changes_nothing(tmp_path: Path) -> None:
    bench, where = made(tmp_path)
    moved = tmp_path / "moved"
    Path(bench.spec.source).rename(moved)
    before = identity_of(replace(bench, spec=replace(bench.spec, source=str(moved))), where)
    moved.rename(bench.spec.source)
    assert identity_of(bench, where) == before


def test_measuring_beside_another_baseline_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.store import baseline

    bench, where = made(tmp_path)
    monkeypatch.setattr("diffaccel.bench.environment", lambda pipe: where)
    known = replace(baseline(Setup("mini-SD1.5", "DDIM", 20)), identity=identity_of(bench, where))
    check_same(bench, known)
    changed, _ = CHANGES["seed"](bench, where)
    with pytest.raises(InputError, match="another options than this"):
        check_same(changed, known)
