"""A wrong configuration is one clear message before any job."""

from __future__ import annotations

from typing import Any

import pytest

from diffaccel.config import ConfigError, load, model_spec, parse_accelerators
from diffaccel.plan import Experiment
from tests.workflow.conftest import Project

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"models": ["mini-SD15"]}, "models: unknown model 'mini-SD15'; did you mean 'mini-SD1.5'?"),
    ({"models": []}, "models: list should have at least 1 item"),
    *(
        ({"models": [{"name": name, "source": "a"}]}, "models.0.name: string should match pattern")
        for name in ("../x", "a/b", "a b", "x\n", "a'", "{{ 1 }}", "$(id)", "", ".x", "a_b")
    ),
    ({"models": [{"name": "x"}]}, "models: 'x' is not a known model, so it needs a source"),
    ({"models": [{"name": "x", "famly": "SD1.5"}]}, "famly: there is no such key; did you mean"),
    (
        {"models": [{"name": "x", "family": "SD9", "source": "y"}]},
        "unknown family 'SD9'; did you mean",
    ),
    (
        {"models": [{"name": "x", "source": "a/b"}]},
        "'a/b' does not tell its family; name it: SD1.5",
    ),
    (
        {"models": [{"name": "SDXL", "config": "a/b"}]},
        "SDXL: config is for a source that is a single file",
    ),
    (
        {"models": [{"name": "SDXL", "source": "x.safetensors", "variant": "fp16"}]},
        "SDXL: a single file has no variant",
    ),
    ({"models": ["mini-SD1.5", "mini-SD1.5"]}, "'mini-SD1.5' is there twice"),
    ({"schedulers": ["DIM"]}, "unknown scheduler 'DIM'; did you mean 'DDIM'?"),
    ({"steps": [0]}, "steps.0: input should be greater than or equal to 1; got 0"),
    ({"steps": 20}, "steps: input should be a valid list; got 20"),
    ({"steps": ["few"]}, "steps.0: input should be a valid integer; got 'few'"),
    ({"accelerators": ["DeepCash"]}, "unknown accelerator 'DeepCash'; did you mean 'DeepCache'?"),
    ({"accelerators": ["ToMe and ToMe"]}, "need different accelerators"),
    (
        {"accelerators": ["fewer steps and ToMe"]},
        "accelerators: fewer steps: goes with no other accelerator",
    ),
    (
        {"rival": "less steps"},
        "rival: unknown accelerator 'less steps'; did you mean 'fewer steps'?",
    ),
    ({"rival": "DeepCache and ToMe"}, "rival: must be one accelerator, not several together"),
    ({"speedups": [0.5]}, "speedups.0: input should be greater than 1; got 0.5"),
    ({"loss_limit": 2}, "loss_limit: input should be less than 1; got 2"),
    ({"loss_limits": 0.1}, "loss_limits: there is no such key; did you mean 'loss_limit'?"),
    ({"measure": {"promts": 4}}, "measure.promts: there is no such key; did you mean 'prompts'?"),
    ({"measure": {"pairs": 9}}, "measure.max_pairs: 6 is below pairs 9"),
    ({"search": {"strategy": "magic"}}, "search.strategy: unknown 'magic'; "),
    ({"tasks_file": "nowhere.txt"}, "tasks_file: there is no file 'nowhere.txt'"),
    (
        {"models": [{"name": "mini-SD1.5", "prompts": "nowhere.txt"}]},
        "prompts nowhere.txt: there is no such file",
    ),
    (
        {"models": [{"name": "mini-SD1.5", "heldout": "nowhere.txt"}]},
        "prompts nowhere.txt: there is no such file",
    ),
    ({"verify": {"heldout": -1}}, "verify.heldout: input should be greater than or equal to 0"),
    ({"verify": {"held": 1}}, "verify.held: there is no such key; did you mean 'heldout'?"),
    ({"measure": {"prompts": 500}}, "prompts resources/prompts/mini.txt: has 128, and 500 are"),
]


def test_numbers_in_lists_may_come_from_snakemakes_command_line() -> None:
    read = load({"steps": ["20"], "speedups": ["2.0", "3"]})
    assert (read.steps, read.speedups) == ([20], [2.0, 3.0])


@pytest.mark.parametrize(("raw", "says"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_said(raw: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(raw)
    assert says in str(caught.value)


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"steps": [0], "loss_limit": -1, "colour": "red"})
    assert str(caught.value).count("\n  - ") == 3


def test_snakemake_shows_the_message_and_starts_nothing(project: Project) -> None:
    project.configure(schedulers=["DIM"])
    output = project.run(ok=False)
    assert "unknown scheduler 'DIM'; did you mean 'DDIM'?" in output
    assert not project.results.exists()


def test_the_shipped_file_holds_the_defaults() -> None:
    import yaml

    from tests.workflow.conftest import ROOT

    shipped = yaml.safe_load((ROOT / "config.yaml").read_text())
    # The default experiment ends in minutes; one of your own takes its time unless it says so.
    quick = {("search", "budget"), ("verify", "budget"), ("measure", "prompts")}
    for section, key in quick:
        assert shipped[section].pop(key) != getattr(getattr(load({}), section), key)
    assert load(shipped) == load({})
    assert set(shipped) == set(type(load({})).model_fields)


@pytest.mark.parametrize("section", ["measure", "search", "verify", "speed", "judge"])
def test_a_key_with_nothing_behind_it_says_nothing(section: str) -> None:
    assert load({section: None}) == load({})


def test_own_models_take_the_rest_from_their_family() -> None:
    config = load({"models": [{"name": "mine", "family": "SD1.5", "source": "/m", "height": 640}]})
    spec = model_spec(config.models[0])
    assert (spec.name, spec.source, spec.height, spec.width) == ("mine", "/m", 640, 512)
    changed = load({"models": [{"name": "mini-SD1.5", "batch_size": 2}]})
    spec = model_spec(changed.models[0])
    assert (spec.batch_size, spec.source) == (2, "resources/models/mini-SD1.5")


def test_scripts_are_proven_on_others_than_those_of_the_search() -> None:
    """Ours for our prompts; for a user's own, what follows in the same file, or what is named."""

    def heldout(entry: str | dict[str, Any], **more: Any) -> tuple[int, list[str]]:
        experiment = Experiment(load({"models": [entry], "measure": {"prompts": 8}, **more}))
        return experiment.heldout(next(iter(experiment.setups.values())))

    ours, own = "resources/prompts/mini-heldout.txt", "resources/prompts/real.txt"
    assert heldout("mini-SD1.5") == (8, [ours])
    assert heldout({"name": "mini-SD1.5", "prompts": own}) == (8, [own])
    assert heldout({"name": "mini-SD1.5", "prompts": own, "heldout": ours}) == (8, [ours])
    assert heldout("mini-SD1.5", verify={"heldout": 5}) == (5, [ours])
    assert heldout("mini-SD1.5", verify={"heldout": 0}) == (0, [])


def test_the_whole_grid_has_its_cells_and_targets() -> None:
    config = load(
        {
            "models": ["SD1.5", "mini-SD1.5"],
            "schedulers": ["DDIM", "DPM-Solver++", "UniPCMultistepScheduler"],
            "steps": [20, 25, 50],
            "accelerators": [
                "DeepCache",
                "T-Gate",
                "ToMe",
                "DeepCache and ToMe",
                "DeepCache and T-Gate",
                "DeepCache, T-Gate, and ToMe",
            ],
            "speedups": [1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 4.0],
        }
    )
    experiment = Experiment(config)
    assert len(experiment.cells) == 2 * 3 * 3 * 6
    assert len(experiment.targets) == 2 * 3 * 3 * 6 * 7
    assert len(experiment.tasks) == 2 * 3 * 3 * 6 * (7 + 3)


@pytest.mark.parametrize(
    "title",
    ["DeepCache, T-Gate, and ToMe", "tome+deepcache+tgate", "ToMe and T-Gate and DeepCache"],
)
def test_accelerators_in_any_order(title: str) -> None:
    assert parse_accelerators(title).title == "DeepCache, T-Gate, and ToMe"
