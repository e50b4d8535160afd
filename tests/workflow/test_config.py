"""A wrong configuration is one clear message before any job."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diffaccel.experiment.config import ConfigError, load
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.resolve import model_spec, parse_accelerators
from diffaccel.experiment.schema import ModelEntry
from diffaccel.recipes import advice
from tests import store
from tests.workflow.conftest import Project

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)

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
        "the family cannot be read from the source 'a/b'; add `family:` to the model, one of SD1.5",
    ),
    (
        {"models": [{"name": "SDXL", "config": "a/b"}]},
        "SDXL: config is for a source that is a single file",
    ),
    (
        {"models": [{"name": "SDXL", "source": "x.safetensors", "variant": "fp16"}]},
        "SDXL: a single file has no variant",
    ),
    ({"models": ["mini-SD1.5", "mini-SD1.5"]}, "'mini-SD1.5' is listed twice"),
    ({"schedulers": ["DIM"]}, "unknown scheduler 'DIM': did you mean 'DDIM'?"),
    ({"steps": [0]}, "steps: each must be a whole number from 1 to 1000; got 0"),
    ({"steps": 20}, "steps: must be a list, e.g. [20]; got 20"),
    ({"steps": ["few"]}, "steps: each must be a whole number from 1 to 1000; got 'few'"),
    ({"accelerators": ["DeepCash"]}, "unknown accelerator 'DeepCash'; did you mean 'DeepCache'?"),
    ({"accelerators": ["ToMe and ToMe"]}, "need different accelerators"),
    (
        {"accelerators": ["fewer steps and ToMe"]},
        "accelerators: fewer steps: goes with no other accelerator",
    ),
    (
        {"rival": "fewer steps"},
        "rival: was renamed to fewer_steps_baseline (true or false)",
    ),
    (
        {"speed": {"settings": [{"deepcache": {}}]}},
        "speed.settings: was renamed to speed.candidates",
    ),
    ({"fewer_steps_baseline": "ToMe"}, "fewer_steps_baseline: "),
    ({"metrics": ["dion"]}, "metrics: unknown metric 'dion'; did you mean 'dino'? Known: "),
    ({"metrics": "dino"}, "metrics: must be a list, e.g. [dino]; got 'dino'"),
    ({"metrics": [5]}, "metrics.0: must be a metric's name, or an entry such as {name: dino, "),
    ({"metrics": ["dino", {"name": "dino"}]}, "metrics: 'dino' is listed twice"),
    ({"metrics": [{"name": "dino", "sorce": "a/b"}]}, "sorce: there is no such key; did you mean"),
    (
        {"metrics": [{"name": "dino", "source": "/no/such"}]},
        "metrics: dino: there is no folder '/no/such'; a hub id is owner/name",
    ),
    (
        {"metrics": [{"name": "dino", "source": "dino.safetensors"}]},
        "metrics: dino: the source must be a folder or a hub id; 'dino.safetensors' is a file",
    ),
    ({"metrics": [{"name": "psnr", "source": "a/b"}]}, "metrics: psnr has no weights: leave out"),
    (
        {"metrics": [{"name": "clip_score", "source": "a/b"}]},
        "metrics: the weights of clip_score are the `scorer` of a model: name them there",
    ),
    ({"metrics": ["hpsv2"]}, "metrics: hpsv2 needs a source: we found no safetensors"),
    (
        {"metrics": ["scene_right"], "models": ["SD1.5"]},
        "metrics: scene_right, model SD1.5, resources/prompts/",
    ),
    ({"speedups": [0.5]}, "speedups: each must be a number above 1; got 0.5"),
    ({"loss_limit": 2}, "loss_limit: must be a share between 0 and 1, and 0.02 means 2%; got 2"),
    ({"loss_limit": "2%"}, "loss_limit: must be a share between 0 and 1, and 0.02 means 2%; got"),
    ({"speedups": [-2]}, "speedups: each must be a number above 1; got -2"),
    ({"steps": "20"}, "steps: must be a list, e.g. [20]; got '20'"),
    ({"models": [{"name": "a", "source": 3}]}, "models.0.source: must be a string; got 3"),
    (
        {"models": [3]},
        "models.0: must be a model's name, or an entry such as {name: my-model, source: /path}; ",
    ),
    (
        {"models": [{"name": "a", "family": "SDXL", "source": "/no/such"}]},
        "models: a: there is no folder or file '/no/such'",
    ),
    (
        {"models": [{"name": "SDXL", "source": "./weights"}]},
        "models: SDXL: there is no folder or file './weights'",
    ),
    ({"schedulers": ["EDMEulerScheduler"]}, "'EDMEulerScheduler': did you mean"),
    (
        {"schedulers": ["DDIM Karras"]},
        "scheduler 'DDIM Karras': DDIMScheduler has no noise schedule of that name",
    ),
    (
        {"schedulers": ["DDIM", "ddim"]},
        "schedulers: 'DDIM' and 'ddim' are the same scheduler; remove one",
    ),
    ({"schedulers": [7]}, "must be a scheduler's name, or an entry such as {name: my-euler"),
    ({"schedulers": [{"name": "x"}]}, "schedulers.0.scheduler: field required"),
    (
        {"schedulers": [{"name": "Euler-a", "scheduler": "Euler"}]},
        "schedulers: Euler-a: is the name of EulerAncestralDiscreteScheduler already",
    ),
    (
        {"schedulers": [{"name": "x", "scheduler": "Euler", "spacing": "trailing"}]},
        "schedulers: x: EulerDiscreteScheduler has no option 'spacing'; did you mean",
    ),
    (
        {"schedulers": [{"name": "x", "scheduler": "Euler", "timestep_spacing": "middle"}]},
        "timestep_spacing must be one of trailing, leading, linspace; got 'middle'",
    ),
    (
        {"schedulers": [{"name": "x", "scheduler": "Euler Karras", "use_beta_sigmas": True}]},
        "has several noise schedules at once: use_beta_sigmas, use_karras_sigmas",
    ),
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
    (
        {"models": [{"name": "mini-SD1.5", "lora": "/no/lora"}]},
        "models: mini-SD1.5: lora: there is no folder or file '/no/lora'; a hub id is owner/name",
    ),
    (
        {"models": [{"name": "mini-SD1.5", "lora": [5]}]},
        "models.lora: must be a folder, a .safetensors file or a hub id, an entry such as {source",
    ),
    (
        {"models": [{"name": "mini-SD1.5", "lora": {"source": "a/b", "wieght": 1}}]},
        "wieght: there is no such key; did you mean 'weight'? Known: source, weight, weight_name",
    ),
    (
        {"models": [{"name": "mini-SD1.5", "lora": {"source": "a/b", "weight": "much"}}]},
        "weight: input should be a valid number; got 'much'",
    ),
    (
        {"models": [{"name": "mini-SD1.5", "fused": True}]},
        "models: mini-SD1.5: fused needs `lora`, which is not set",
    ),
    (
        {"models": [{"name": "mini-SD1.5", "textual_inversion": "a/b"}]},
        "textual_inversion.0.token: field required",
    ),
    (
        {
            "models": [
                {"name": "mini-SD1.5", "textual_inversion": [{"source": "a/b", "token": "x"}] * 2}
            ]
        },
        "mini-SD1.5: textual_inversion: the token 'x' is listed twice",
    ),
    ({"models": [{"name": "mini-SD1.5", "clip_skip": 0}]}, "clip_skip: input should be greater th"),
    ({"models": [{"name": "mini-SD1.5", "guidance_rescale": 2}]}, "guidance_rescale: input should"),
    (
        {"models": [{"name": "mini-SD1.5", "negative_prompt": 3}]},
        "negative_prompt: must be a string;",
    ),
    (
        {"models": [{"name": "SDXL", "untrained": True, "lora": "a/b"}]},
        "has random weights, so leave out lora",
    ),
    ({"verify": {"heldout": -1}}, "verify.heldout: input should be greater than or equal to 0"),
    ({"verify": {"held": 1}}, "verify.held: there is no such key; did you mean 'heldout'?"),
    ({"measure": {"prompts": 500}}, "prompts resources/prompts/mini.txt: has 128, and 500 are"),
]


def test_one_mistake_is_one_line() -> None:
    """However many kinds of entry a list may have."""
    with pytest.raises(ConfigError) as caught:
        load({"models": [{"name": "a", "source": 3}]})
    assert str(caught.value).count("\n") == 1


def test_heldout_negative_prompts_that_scripts_could_not_be_told(tmp_path: Path) -> None:
    (tmp_path / "held.tsv").write_text("prompt\tnegative_prompt\n" + "a ring\tdots\n" * 16)
    entry = {"name": "mini-SD1.5", "heldout": str(tmp_path / "held.tsv")}
    with pytest.raises(
        ConfigError, match=r"held\.tsv \(held out\) has negative prompts and .* has none"
    ):
        load({"models": [entry]})
    load({"models": [{**entry, "negative_prompt": "squares"}]})


def test_what_snakemakes_command_line_gives_is_text() -> None:
    """Of all that is within a value: ``--config 'search={"budget": null}'``."""
    read = load(
        {
            "measure": {"max_prompts": "48", "spread": "0.05"},
            "search": {"budget": "null", "call_seconds": "90"},
            "judge": {"sandbox": "false", "scripts": "12"},
            "fewer_steps_baseline": "false",
            "models": [
                {
                    "name": "mini-SD1.5",
                    "batch_size": "2",
                    "lora": [{"source": "a/b", "weight": "0.5"}],
                    "fused": "true",
                }
            ],
        }
    )
    assert (read.measure.max_prompts, read.measure.spread) == (48, 0.05)
    assert (read.search.budget, read.search.call_seconds) == (None, 90.0)
    assert read.fewer_steps_baseline is False
    assert read.judge.sandbox is False and read.judge.scripts == "12"
    (model,) = read.models
    assert isinstance(model, ModelEntry) and model.batch_size == 2
    assert model.lora[0].weight == 0.5 and model.fused is True


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


SAID: list[tuple[str | None, tuple[str, ...], str]] = [
    (
        "schedulers: [DIM]",
        (),
        "the configuration is wrong:\n  - schedulers: unknown scheduler 'DIM': "
        "did you mean 'DDIM'? Known: DDIM, ",
    ),
    (None, (), "there is no config.yaml in {here}: "),
    ("steps: [20\nmodels: x", (), "config.yaml: this is not YAML, at line 2, column 7: "),
    ("- a", (), "config.yaml: a configuration has keys, as in config.yaml; got ['a']\n"),
    ("{}", ("--no-such-flag",), "unrecognized arguments: --no-such-flag. "),
    ("{}", ("--config", "steps=20"), "  - steps: must be a list, e.g. [20]; got 20\n"),
    ("{}", ("--configfile", "other.yaml"), "there is no file other.yaml"),
]


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        pytest.param(*said, marks=[pytest.mark.long] * (place % 2))
        for place, said in enumerate(SAID)
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_one_message_of_ours(
    project: Project, text: str | None, arguments: tuple[str, ...], says: str
) -> None:
    """No rule, no usage of snakemake, no traceback; and nothing is started or written."""
    path = project.folder / "config.yaml"
    path.unlink() if text is None else path.write_text(text)
    output = project.run(*arguments, ok=False)
    assert output.startswith(says.format(here=project.folder)) or says in output
    assert output.count("\n") <= 2 and len(output) < 500
    assert not re.search(r"usage|Traceback|\.smk|Snakefile|workflow specific", output)
    assert not project.results.exists()


@pytest.mark.long
def test_the_command_that_evaluates_more_is_understood(project: Project) -> None:
    """The one that the advice names, by snakemake itself."""
    measured = store.measurement(store.deepcache(2), 1.5, 0.01)
    _, _, *change = shlex.split(advice.command(store.baseline(CONFIGURATION), measured, 60))
    project.configure(measure={"prompts": 4, "max_prompts": 4, "pairs": 1, "max_pairs": 1})
    assert "baseline" in project.run("--dry-run", *change)


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


def test_own_models_take_the_rest_from_their_family(tmp_path: Path) -> None:
    own = {"name": "mine", "family": "SD1.5", "source": str(tmp_path), "height": 640}
    spec = model_spec(load({"models": [own]}).models[0])
    assert (spec.name, spec.source, spec.height, spec.width) == ("mine", str(tmp_path), 640, 512)
    changed = load({"models": [{"name": "mini-SD1.5", "batch_size": 2}]})
    spec = model_spec(changed.models[0])
    assert (spec.batch_size, spec.source) == (2, "resources/models/mini-SD1.5")


def test_scripts_are_verified_on_others_than_those_of_the_search() -> None:
    """Ours for our prompts; for a user's own, what follows in the same file, or what is named."""

    def heldout(entry: str | dict[str, Any], **more: Any) -> tuple[int, list[str]]:
        experiment = Experiment(load({"models": [entry], "measure": {"prompts": 8}, **more}))
        return experiment.heldout(next(iter(experiment.configurations.values())))

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


def test_a_configuration_that_names_no_metric_is_read_without_numpy() -> None:
    """Each process of a run reads it."""
    code = (
        "import sys; from diffaccel.experiment.config import load; load({}); "
        "print(*{'numpy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
