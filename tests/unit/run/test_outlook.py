"""What is said of a run before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from benchmarks.gpu import hours
from diffaccel.errors import InputError
from diffaccel.experiment.config import load, read
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.plan import Experiment
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.models import FAMILIES
from diffaccel.plugins.models._untrained import build
from diffaccel.run.outlook import Outlook, lines
from diffaccel.search.strategies import STRATEGIES
from diffaccel.store.jsonio import write_record
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
SMALL: dict[str, Any] = {"schedulers": ["DDIM"], "platform": "cpu"}


def outlook(tmp_path: Path, at_once: int | None = 1, **changes: Any) -> Outlook:
    return Outlook(Experiment(load(SMALL | {"results": str(tmp_path)} | changes)), at_once)


def said(made: Outlook) -> str:
    return "\n".join(lines(made))


def measured(tmp_path: Path, configuration: Configuration, seconds: float) -> None:
    record = store.baseline(configuration, seconds=seconds)
    write_record(tmp_path / "cpu" / "baseline" / f"{configuration.slug}.json", record)


def test_the_candidates_are_those_of_the_strategy(tmp_path: Path) -> None:
    pipeline = store.baseline(CONFIGURATION).pipeline
    frontier = STRATEGIES["frontier"]
    names = [("deepcache",), ("tgate",), ("tome",), ("deepcache", "tgate"), ("fewer_steps",)]
    spaces = [combination(each).space(pipeline).on_grid() for each in names]
    made = outlook(tmp_path)
    assert made.candidates(CONFIGURATION) == sum(map(frontier.at_most, spaces))
    assert f"candidates: {made.candidates(CONFIGURATION)} at most" in said(made)
    whole = outlook(tmp_path, search={"strategy": "exhaustive"}, fewer_steps_baseline=False)
    assert whole.candidates(CONFIGURATION) == sum(space.size for space in spaces[:-1])


def test_candidates_that_the_image_size_rules_out_do_not_count(tmp_path: Path) -> None:
    def known(height: int, width: int) -> int | None:
        model = {"name": "mini-SD1.5", "height": height, "width": width}
        asked = {"accelerators": ["ToMe"], "search": {"strategy": "exhaustive"}}
        made = outlook(tmp_path, models=[model], fewer_steps_baseline=False, **asked)
        return made.candidates(CONFIGURATION)

    assert known(8, 128) == 0 != known(128, 128)


def test_a_call_is_told_by_the_most_similar_that_was_timed(tmp_path: Path) -> None:
    assert outlook(tmp_path).call(CONFIGURATION) is None
    measured(tmp_path, Configuration("mini-SD1.5", "DPM-Solver++", 50), 10.0)
    assert outlook(tmp_path).call(CONFIGURATION) == pytest.approx(4.0)
    measured(tmp_path, Configuration("mini-SD1.5", "DDIM", 25), 5.5)
    assert outlook(tmp_path).call(CONFIGURATION) == pytest.approx(4.4)
    measured(tmp_path, CONFIGURATION, 3.0)
    assert outlook(tmp_path).call(CONFIGURATION) == pytest.approx(3.0)
    measured(tmp_path, Configuration("mini-SD2.1", "DDIM", 20), 9.0)
    assert outlook(tmp_path).call(CONFIGURATION) == pytest.approx(3.0)


def test_the_time_rests_on_budgets_or_on_a_call(tmp_path: Path) -> None:
    unknown = outlook(tmp_path)
    assert unknown.seconds(CONFIGURATION) is None
    assert "time: known once a baseline is timed" in said(unknown)
    limited = outlook(tmp_path, search={"budget": 300}, verify={"budget": 150})
    assert limited.seconds(CONFIGURATION) == 450
    assert "at most about 7 min 30 s and the baselines, one after the other" in said(limited)
    measured(tmp_path, CONFIGURATION, 3.0)
    one, two = (outlook(tmp_path, measure={"prompts": n}).seconds(CONFIGURATION) for n in (8, 16))
    assert one is not None and two is not None and 0 < one < two
    assert "a call of the baseline took 3 s" in said(outlook(tmp_path))
    budget = outlook(tmp_path, search={"budget": 30}, verify={"budget": 15}).seconds(CONFIGURATION)
    assert budget is not None and 45 < budget < 45 + 3 * 20 < one


def test_there_are_no_more_prompts_than_the_file_has(tmp_path: Path) -> None:
    """That of a baseline is said, and what it takes is of that."""
    few = tmp_path / "prompts.txt"
    few.write_text("".join(f"a red square, number {number}\n" for number in range(20)))
    own = {"name": "mini-SD1.5", "prompts": str(few)}
    measured(tmp_path, CONFIGURATION, 3.0)
    made = outlook(tmp_path, models=[own], measure={"prompts": 8, "max_prompts": 64})
    text = said(made)
    assert "a baseline of 20 prompts each; of a candidate 8, and up to 20 where" in text
    same = outlook(tmp_path, models=[own], measure={"prompts": 8, "max_prompts": 20})
    assert made.seconds(CONFIGURATION) == same.seconds(CONFIGURATION)
    assert made.disk() == same.disk()
    both = outlook(tmp_path, models=[own, "mini-SD2.1"], measure={"prompts": 8, "max_prompts": 64})
    assert "a baseline of 20 to 64 prompts each; of a candidate 8, and up to as many where" in said(
        both
    )


def test_jobs_side_by_side_take_less_but_no_less_than_the_longest(tmp_path: Path) -> None:
    both = {"schedulers": ["DDIM", "DPM-Solver++"]}
    budgets = {"search": {"budget": 300}, "verify": {"budget": 300}}
    assert "about 20 min" in said(outlook(tmp_path, 1, **both, **budgets))
    assert "about 10 min" in said(outlook(tmp_path, 2, **both, **budgets))
    assert "about 10 min" in said(outlook(tmp_path, 8, **both, **budgets))


def test_a_sentence_that_is_not_understood_is_known_now(tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_text("make it fast\nmake it faster\n")
    text = said(outlook(tmp_path, tasks_file=str(tmp_path / "tasks.txt")))
    assert "2 tasks of yours; 2 of these not understood, first user-001: cannot read" in text


def test_what_must_be_fetched_is_of_its_familys_size(tmp_path: Path) -> None:
    made = outlook(tmp_path, models=["SDXL"], platform="some-gpu")
    text = said(made)
    assert "candidates: 0 at most" not in text
    needed = made.memory()
    assert needed is not None and needed.weights == 2 * FAMILIES["SDXL"].sizes.parameters
    assert needed.call == 4 * 256 * 1024 * 1024 * 4 * 2
    assert "15.5 GB of GPU memory for SDXL (6.9 GB of weights" in text


def test_a_call_of_more_images_takes_more(tmp_path: Path) -> None:
    one, more = (
        outlook(tmp_path, models=["SD1.5"], verify={"batch_sizes": [size]}).memory()
        for size in (1, 16)
    )
    assert one is not None and more is not None
    assert (one.images, more.images) == (8, 16)
    assert more.call == 2 * one.call


def test_the_weights_are_those_on_disk(tmp_path: Path) -> None:
    needed = outlook(tmp_path).memory()
    size = sum(
        weights.numel()
        for path in Path("resources/models/mini-SD1.5").rglob("*.safetensors")
        for weights in load_file(path).values()
    )
    assert needed is not None and needed.weights == 4 * size  # float32 on a CPU


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_published_sizes_have_so_many_parameters(name: str) -> None:
    parts = build(FAMILIES[name].sizes, "float16", "meta").components.values()
    found = sum(
        w.numel() for part in parts if hasattr(part, "parameters") for w in part.parameters()
    )
    assert FAMILIES[name].sizes.parameters == found


def test_the_hours_of_the_real_grid_are_computed_from_what_is_kept() -> None:
    root = Path("benchmarks/gpu/nvidia-h100-80gb-hbm3")
    experiment = Experiment(read(Path("resources/experiments/real.yaml")))
    known = hours.read(experiment, root)
    *models, whole = hours.lines(known)
    named = {line.split(":")[0] for line in models}
    assert named == {"SD1.5_DDIM_50", "SD2.1_DDIM_50", "SDXL_DDIM_50"}
    assert whole.startswith("all 27: about ")
    usual = [known.usual(configuration) for configuration in experiment.configurations.values()]
    most = [known.seconds(configuration) for configuration in experiment.configurations.values()]
    assert all(0 < one < (other or 0) for one, other in zip(usual, most, strict=True))


def test_hours_of_what_was_never_timed_are_refused(tmp_path: Path) -> None:
    experiment = Experiment(read(Path("resources/experiments/real.yaml")))
    with pytest.raises(InputError, match="nothing is kept of other"):
        hours.read(experiment, tmp_path / "other")


def test_images_of_answers_take_room(tmp_path: Path) -> None:
    """Of each script that there may be: of more speedups, and of larger images, more."""

    def disk(side: int, *speedups: float) -> int:
        models = [{"name": "mini-SD1.5", "height": side, "width": side}]
        asked = {"models": models, "speedups": [*speedups], "accelerators": ["DeepCache"]}
        return outlook(tmp_path, **asked).disk()

    one, other = (disk(side, 1.2, 2.0) - disk(side, 1.2) for side in (128, 256))
    assert one > 0 and other == pytest.approx(4 * one)
