"""A change of anything that determines a measurement makes another digest, and no row of the old
one is used."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffaccel.errors import InputError
from diffaccel.evaluation import keys
from diffaccel.evaluation.bench import check_same, fingerprint_of, shared, versions
from diffaccel.evaluation.calls import Bench
from diffaccel.evaluation.records import Environment, Evaluation, SpeedRow, TimingRow
from diffaccel.experiment.config import load
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.prompts import Prompt, PromptLine
from diffaccel.machine.devices import Device
from diffaccel.plugins import accelerators
from diffaccel.plugins.accelerators import sources
from diffaccel.plugins.models import ModelSpec
from diffaccel.plugins.models._files import content_hash, model_files
from diffaccel.plugins.models._spec import Lora, TextualInversion, place_of
from diffaccel.plugins.space import ParametersDict
from diffaccel.stages import speed
from diffaccel.store import source
from diffaccel.store.journal import Journal
from diffaccel.store.jsonio import digest
from tests.store import baseline, deepcache, tgate

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
PACKAGE = "diffaccel.plugins.accelerators"
Change = Callable[[Bench, Environment], tuple[Bench, Environment]]


def made(folder: Path) -> tuple[Bench, Environment]:
    for name in ("model", "scorer", "vae", "config", "lora", "word"):
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
        lora=(Lora(str(folder / "lora"), 1.0, "weights.safetensors"),),
        textual_inversion=(TextualInversion(str(folder / "word/weights.safetensors"), "<x>"),),
    )
    configuration, options = Configuration("m", "DDIM", 20), MeasureOptions()
    bench = Bench(None, configuration, spec, options, ["a", "b"], Device("cpu"), {})  # type: ignore[arg-type]
    return bench, Environment("cpu", "CPU", "1.0", "float32", "AttnProcessor", 1, versions())


def spec_with(**changes: Any) -> Change:
    return lambda bench, where: (replace(bench, spec=replace(bench.spec, **changes)), where)


def configuration_with(**changes: Any) -> Change:
    return lambda bench, where: (
        replace(bench, configuration=replace(bench.configuration, **changes)),
        where,
    )


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


def added(field: str, **changes: Any) -> Change:
    """A LoRA or a textual inversion with something else, or with another file."""

    def change(bench: Bench, where: Environment) -> tuple[Bench, Environment]:
        (each,) = getattr(bench.spec, field)
        if not changes:
            Path(place_of(each)).write_bytes(b"others")
        return spec_with(**{field: (replace(each, **changes),)})(bench, where)

    return change


CHANGES: dict[str, Change] = {
    "a LoRA": spec_with(lora=()),
    "a LoRA's file": added("lora"),
    "a LoRA's weight": added("lora", weight=0.5),
    "fused": spec_with(fused=True),
    "a textual inversion": spec_with(textual_inversion=()),
    "a textual inversion's file": added("textual_inversion"),
    "a token": added("textual_inversion", token="<y>"),
    "negative prompt": spec_with(negative_prompt="blurry"),
    "skipped layers": spec_with(clip_skip=1),
    "rescaled guidance": spec_with(guidance_rescale=0.5),
    **{f"files of {field}": file_of(field) for field in ("source", "scorer", "vae", "config")},
    "scorer's id": spec_with(scorer="owner/other@1"),
    "variant": spec_with(variant="fp16"),
    "height": spec_with(height=128),
    "width": spec_with(width=128),
    "guidance": spec_with(guidance_scale=3.0),
    "batch": spec_with(batch_size=4),
    "scheduler": configuration_with(scheduler="DPM-Solver++"),
    "steps": configuration_with(steps=25),
    "seed": options_with(seed=1),
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
    before = shared(fingerprint_of(bench, where))
    row = SpeedRow({}, None, None, 1.0, "2026-11-21")
    Journal(tmp_path / "j", before, SpeedRow).append(row)
    assert Journal(tmp_path / "j", shared(fingerprint_of(bench, where)), SpeedRow).rows() == [row]
    after = shared(fingerprint_of(*CHANGES[name](bench, where)))
    assert Journal(tmp_path / "j", after, SpeedRow).rows() == []


SCORER = str(Path(__file__).parents[3] / "resources/models/mini-clip")
LONG = " ".join(["red"] * 45)


@pytest.mark.parametrize(
    ("change", "prompts", "scoring"),
    [
        (spec_with(), ["a", "b"], ""),
        (spec_with(width=128), ["a", "b"], "images resized"),
        (spec_with(), ["a", LONG], "captions cut"),
    ],
)
def test_how_images_and_captions_are_scored_otherwise_than_they_are_is_part_of_the_identity(
    change: Change, prompts: list[str], scoring: str, tmp_path: Path
) -> None:
    """What could always be scored as it is has the identity that it had before there was such."""
    bench, where = made(tmp_path)
    bench, _ = change(bench, where)
    bench = replace(bench, prompts=prompts, spec=replace(bench.spec, scorer=SCORER))
    before = fingerprint_of(bench, where)
    scored = replace(bench, metrics={"clip_score": lambda images, prompts, references: []})
    now = fingerprint_of(scored, where)
    assert {name: value for name, value in now.items() if name != "scoring"} == before
    assert scoring in now.get("scoring", "") and ("scoring" in now) == bool(scoring)
    assert (shared(now) == shared(before)) == (not scoring)
    # Its times are as good as they were.
    rows = [
        keys.timed(tmp_path, replace(baseline(CONFIGURATION), fingerprint=each)).digest
        for each in (before, now)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "more", [{"confidence": 0.99}, {"spread": 0.1}, {"max_pairs": 99}, {"max_prompts": 64}]
)
def test_measuring_more_or_more_surely_measures_nothing_again(
    more: dict[str, Any], tmp_path: Path
) -> None:
    bench, where = made(tmp_path)
    before = shared(fingerprint_of(bench, where))
    assert shared(fingerprint_of(*options_with(**more)(bench, where))) == before
    now = baseline(CONFIGURATION)
    row = TimingRow(now.digest, now.pipeline, SpeedRow(deepcache(2), None, None, 1.0, "2026-11-21"))
    keys.timed(tmp_path, now).append(row)
    later = replace(now, options=replace(now.options, **more))
    assert keys.timed(tmp_path, later).rows() == [row]
    assert keys.timed(tmp_path, replace(now, options=replace(now.options, pairs=9))).rows() == []


@pytest.mark.parametrize(
    ("change", "same"),
    [
        *((options_with(**{name: 64}), True) for name in ("max_pairs", "prompts", "max_prompts")),
        (options_with(confidence=0.99, spread=0.1), True),
        (spec_with(scorer="owner/other", prompts="other.txt", name="n"), True),
        (options_with(pairs=5), False),
        (file_of("source"), False),
        *((CHANGES[name], False) for name in ("height", "batch", "steps", "dtype", "driver")),
    ],
)
def test_the_times_of_an_untrained_model(change: Change, same: bool, tmp_path: Path) -> None:
    bench, where = made(tmp_path)
    before = speed.fingerprint_of(bench, where)
    assert (speed.fingerprint_of(*change(bench, where)) == before) is same


def evaluated(prompts: int, parameters: ParametersDict | None = None) -> Evaluation:
    scores = {"clip_score": [80.0] * prompts}
    return Evaluation(
        parameters or deepcache(2), 0.0, (0.0, 0.0), scores, {}, 1.0, 1.0, "2026-11-21"
    )


def test_what_was_evaluated_with_the_first_prompts_is_used_whatever_follows_them(
    tmp_path: Path,
) -> None:
    def journal(*prompts: str) -> Journal[Evaluation]:
        return keys.evaluated(
            tmp_path, replace(baseline(CONFIGURATION), prompts=list(prompts)), "cell"
        )

    rows = [evaluated(1), evaluated(2)]
    for row in rows:
        journal("a", "b").append(row)
    assert journal("a", "b").rows() == journal("a", "b", "c").rows() == rows
    assert journal("a").rows() == journal("a", "c").rows() == rows[:1]
    assert journal("b", "a").rows() == journal("b").rows() == []


def test_a_prompts_own_seed_and_negative_prompt_count(tmp_path: Path) -> None:
    def journal(*prompts: Prompt) -> Journal[Evaluation]:
        return keys.evaluated(
            tmp_path, replace(baseline(CONFIGURATION), prompts=list(prompts)), "cell"
        )

    rows = [evaluated(1), evaluated(2)]
    for row in rows:
        journal("a", PromptLine("b", seed=5)).append(row)
    assert journal("a", PromptLine("b", seed=5), "c").rows() == rows
    for other in ("b", PromptLine("b", seed=6), PromptLine("b", "dim", 5)):
        assert journal("a", other).rows() == rows[:1]


def test_where_there_is_none_of_it_keys_are_as_they_were(tmp_path: Path) -> None:
    bench, where = made(tmp_path)
    bench = replace(bench, spec=replace(bench.spec, lora=(), textual_inversion=()))
    found, spec = fingerprint_of(bench, where), bench.spec
    assert found["prompts"] == digest(["a", "b"])
    assert found["call"] == digest([64, 64, 7.5, 2])
    sources = (spec.source, str(spec.config), str(spec.vae))
    assert found["model"] == digest([*map(content_hash, sources), None])


def test_an_accelerators_source_is_of_its_own_measurements_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = baseline(CONFIGURATION)
    combined = {**deepcache(2), **tgate(10)}
    rows = [evaluated(1), evaluated(1, tgate(10)), evaluated(1, combined)]
    for row in rows:
        keys.evaluated(tmp_path, now, "cell").append(row)
    real = keys.sources

    def changed(parameters: ParametersDict) -> dict[str, str]:
        return real(parameters) | ({"tgate": "another"} if "tgate" in parameters else {})

    monkeypatch.setattr(keys, "sources", changed)
    assert keys.evaluated(tmp_path, now, "cell").rows() == rows[:1]


def test_an_experiment_knows_the_sources_that_it_puts_on() -> None:
    titles = ["DeepCache", "DeepCache and T-Gate"]
    experiment = Experiment(load({"accelerators": titles, "fewer_steps_baseline": True}))
    (found,) = {
        tuple(experiment.sources(configuration).items())
        for configuration in experiment.configurations.values()
    }
    assert [name for name, _ in found] == ["deepcache", "fewer_steps", "tgate"]
    assert len({source for _, source in found}) == 3


def test_a_source_is_what_it_does(tmp_path: Path) -> None:
    own = '"""One."""\nclass A:\n    """Two."""\n    x: int = 1\n    """Three."""\n'

    def meant(text: str) -> str:
        return source.meaning(ast.parse(text))

    assert meant(own) == meant(own.replace("Two", "2").replace("Three", "3") + "\n# four\n")
    assert meant(own) != meant(own.replace("= 1", "= 2"))


def test_a_source_has_what_it_takes_from_beside_it() -> None:
    deepcache, graphs = (
        set(source.modules(f"{PACKAGE}.{name}")) for name in ("deepcache", "graphs")
    )
    assert graphs - deepcache == {
        f"{PACKAGE}.graphs",
        f"{PACKAGE}._step_graphs",
    }
    assert {f"{PACKAGE}.base", f"{PACKAGE}._pipeline"} <= deepcache
    together = set(source.modules(f"{PACKAGE}._combination"))
    assert {f"{PACKAGE}._unpatched", f"{PACKAGE}.base"} <= together


def test_what_puts_accelerators_on_counts_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters: ParametersDict = {"tome": {}, "deepcache": {}}
    before = sources(parameters)
    assert set(before) == {"deepcache", "tome"}
    own = source.hash_of
    changed = f"{PACKAGE}._combination"
    monkeypatch.setattr(
        accelerators, "hash_of", lambda name: "other" if name == changed else own(name)
    )
    after = sources(parameters)
    assert all(after[name] != before[name] for name in before)


def test_versions_name_all_that_a_measurement_depends_on() -> None:
    assert {"diffaccel", "torch", "diffusers", "transformers", "torchmetrics"} <= versions().keys()
    assert {"DeepCache", "tgate", "tomesd"} <= versions().keys()
    assert {"numpy", "pillow", "tokenizers", "torchvision", "triton"} <= versions().keys()


def test_a_name_or_a_path_alone_changes_nothing(tmp_path: Path) -> None:
    bench, where = made(tmp_path)
    moved = tmp_path / "moved"
    Path(bench.spec.source).rename(moved)
    before = fingerprint_of(replace(bench, spec=replace(bench.spec, source=str(moved))), where)
    moved.rename(bench.spec.source)
    assert fingerprint_of(bench, where) == before


def test_what_lies_behind_links_counts(tmp_path: Path) -> None:
    """As in a snapshot of a hub, whose folders or files are links."""
    real, model = tmp_path / "real/unet", tmp_path / "model"
    real.mkdir(parents=True)
    (real / "config.json").write_text("{}")
    (real / "model.safetensors").write_bytes(b"weights")
    (model / "vae").mkdir(parents=True)
    (model / "vae/model.safetensors").symlink_to(real / "model.safetensors")
    (model / "unet").symlink_to("../real/unet")
    names = ["unet/config.json", "unet/model.safetensors", "vae/model.safetensors"]
    assert [path.relative_to(model).as_posix() for path in model_files(str(model))] == names
    before = content_hash(str(model))
    (real / "model.safetensors").write_bytes(b"another")
    assert content_hash(str(model)) != before


def test_a_link_to_a_folder_that_it_is_in_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/model.safetensors").write_bytes(b"weights")
    (tmp_path / "unet/again").symlink_to("..")
    assert model_files(str(tmp_path)) == [tmp_path / "unet/model.safetensors"]
    assert content_hash(str(tmp_path)) == content_hash(str(tmp_path))


def test_measuring_beside_another_baseline_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, where = made(tmp_path)
    monkeypatch.setattr("diffaccel.evaluation.bench.environment", lambda pipe: where)
    known = replace(baseline(CONFIGURATION), fingerprint=fingerprint_of(bench, where))
    check_same(bench, known)
    changed, _ = CHANGES["seed"](bench, where)
    with pytest.raises(InputError, match="another seed than this"):
        check_same(changed, known)
