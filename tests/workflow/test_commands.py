"""The commands of the first version, as its users start them: on the same store as the rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffaccel.search.records import Search
from diffaccel.store.jsonio import read_record
from tests.workflow.conftest import ROOT, Project, make_project

CONFIGURATION = "mini-SD1.5_DDIM_3"
START = "Generate a mini-SD1.5 pipeline using the DDIM sampler with 3 steps, accelerated by"


def start(project: Project, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = str(ROOT / "workflow" / f"{command}.py")
    return subprocess.run(
        [sys.executable, path, *arguments, "--cores", "2"],
        cwd=project.folder,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """An experiment of which one model cannot be loaded, and what `auto_code_gen` printed."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "empty").mkdir()
    broken = {"name": "broken", "family": "SD1.5", "source": str(folder / "empty")}
    (folder / "tasks.txt").write_text(
        f"{START} DeepCache with 1.01x speedup\n"
        f"{START} DeepCache with 60x speedup\n"
        f"{START} MagicCache with 2x speedup\n"
        f"{START.replace('mini-SD1.5', 'broken')} DeepCache with 2x speedup\n"
    )
    project = make_project(
        folder / "p",
        models=["mini-SD1.5", broken],
        steps=[3],
        speedups=[],
        loss_limit=0.9,
        measure={"prompts": 3, "max_prompts": None, "pairs": 1, "max_pairs": 1},
    )
    done = start(project, "auto_code_gen", "--tasks_file", str(folder / "tasks.txt"))
    assert done.returncode == 1, done.stdout + done.stderr
    return project, done.stdout


@pytest.mark.long
def test_what_is_missing_is_searched_and_what_fails_holds_up_nothing(
    generated: tuple[Project, str],
) -> None:
    project, output = generated
    scripts = {path.stem for path in (project.results / "code").glob("*.py")}
    assert "user-001" in scripts and f"{CONFIGURATION}_deepcache_bound80" in scripts
    assert f"{len(scripts)} scripts are in results/cpu/code" in output
    for name in ("speedup_bounds", "search_params"):
        (key, *_) = json.loads((project.results / f"{name}.json").read_text())
        assert key.startswith("('mini-SD1.5', 'DDIMScheduler', '3', ")


@pytest.mark.long
def test_the_end_lists_every_task_that_was_not_met_and_why(generated: tuple[Project, str]) -> None:
    project, output = generated
    said = dict(line.strip().split(": ", 1) for line in output.splitlines() if ": " in line)
    assert said["user-002"].startswith("infeasible: 60.0x is above the bound")
    assert "; nearest: " in said["user-002"] and "deepcache.cache_interval=" in said["user-002"]
    assert said["user-003"].startswith("unparsed: ") and "MagicCache" in said["user-003"]
    assert said["user-004"].startswith("not searched: model 'broken': ")
    made = [
        f"{configuration}_deepcache_bound{n}"
        for configuration in (CONFIGURATION, "broken_DDIM_3")
        for n in (80, 90, 95)
    ]
    scripts = {path.stem for path in (project.results / "code").glob("*.py")}
    unmet = {f"user-00{n}" for n in (1, 2, 3, 4)} | set(made)
    assert {
        name for name in said if name.startswith((CONFIGURATION, "broken", "user"))
    } == unmet - scripts
    assert "results/cpu/logs/models/broken.log" in said["failed"]


@pytest.mark.long
def test_one_cell_from_what_was_measured(generated: tuple[Project, str]) -> None:
    """In the store beside what is there; nothing is measured again, and nothing lost."""
    project, _ = generated
    path = project.results / "search" / f"{CONFIGURATION}.json"
    rows, before = project.journal_lines(), read_record(Search, path)
    flags = ["--pipe", "mini sd1.5", "--sched", "ddim", "--steps", "3"]
    flags += ["--search_targets", "deep-cache", "--req_speedup", "1.01"]
    done = start(project, "traversal_search", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mini-SD1.5, DDIM, 3 steps, DeepCache, for 1.01x: " in done.stdout.splitlines()[-1]
    assert project.journal_lines() == rows
    found = read_record(Search, path)
    assert [cell.bound for cell in found.cells] == [cell.bound for cell in before.cells]
    sentences = [each.task.sentence for each in found.answers if each.task.origin == "user"]
    assert len(sentences) == 3 and "1.01x speedup and precision loss" in str(sentences[-1])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--search_targets", "deepcash"], "unknown accelerator 'deepcash': did you mean"),
        (["--search_targets", "tome,tome"], "several different ones are needed"),
        (["--search_targets", ","], "one accelerator or several"),
        (["--pipe", "SD9"], "unknown model 'SD9'"),
        (["--sched", "Eule"], "unknown scheduler 'Eule': did you mean"),
        (["--steps", "0"], "steps: each must be a whole number from 1 to 1000; got 0"),
        (["--req_speedup", "0.5"], "the speedup must be 1 or more, not 0.5"),
        (["--req_score_loss", "2"], "the loss must lie between 0 and 1"),
        (["--num_samples", "1"], "measure.prompts: input should be greater than or equal to 2"),
        (["--batch_size", "-1"], "batch_size: input should be greater than or equal to 1"),
        (["--configfile", "none.yaml"], "there is no file none.yaml"),
    ],
)
def test_wrong_flags(
    flags: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from diffaccel.cli import main

    monkeypatch.chdir(make_project(tmp_path / "p").folder)
    right = {"--pipe": "mini-SD1.5", "--sched": "DDIM", "--steps": "8", "--search_targets": "tome"}
    words = [word for pair in (right | {flags[0]: flags[1]}).items() for word in pair]
    with pytest.raises(SystemExit) as done:
        main(["traversal_search", *words])
    assert done.value.code == 2 and says in caplog.text


@pytest.mark.long
def test_a_dry_run_writes_nothing(project: Project) -> None:
    flags = ["--pipe", "mini-SD1.5", "--sched", "DDIM", "--steps", "8", "--search_targets", "tome"]
    done = start(project, "traversal_search", *flags, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "baseline, model, search" in done.stdout and not project.results.exists()


@pytest.mark.parametrize(
    "command",
    ["traversal_search", "explore_upper_bounds", "generate_tasks", "auto_code_gen"],
)
def test_help(command: str, project: Project) -> None:
    done = start(project, command, "--help")
    assert done.returncode == 0 and f"diffaccel {command}" in done.stdout
