"""The judge's rules: what is missing or new is judged, and nothing else. The scripts here fail
before any of them runs; judging what runs is tested in tests/judge."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from diffaccel.benchmark.judge import sandbox
from tests.workflow.conftest import Project

SENTENCE = "Generate a mini-SD1.5 pipeline using the {} sampler with 8 steps"


def prepare(project: Project, *numbers: int) -> None:
    rows = [
        {"prompt_id": str(number), "prompt_context": SENTENCE.format(name)}
        for number, name in enumerate(("DDIM", "DDIM", "DPM-Solver++", "UniPC"), start=1)
    ]
    (project.folder / "prompts.json").write_text(json.dumps(rows))
    (project.folder / "gen_code").mkdir(exist_ok=True)
    for number in numbers:
        (project.folder / f"gen_code/{number}.py").write_text(f"# {number}\n")


def outcomes(project: Project) -> dict[str, str]:
    records = [json.loads(path.read_text()) for path in project.results.glob("judge/*.json")]
    return {each["id"]: each["outcome"] for record in records for each in record["judgements"]}


@pytest.mark.long
def test_judging(project: Project, sandboxed: None) -> None:
    project.configure(judge={"prompts": "prompts.json"})
    prepare(project, 1, 2, 3)
    project.run("judge")
    assert outcomes(project) == {"1": "static", "2": "static", "3": "static"}
    table = (project.results / "judge/pass_rates.csv").read_text().splitlines()
    assert table[1].startswith("plain,3,3,0.0000,0.0000,0.0000,0,,")
    assert table[2].endswith(",1"), "one has no script"

    made = project.results / "judge/mini-SD1.5_DDIM_8.json"
    other = project.results / "judge/mini-SD1.5_DPM-Solver++_8.json"
    times = made.stat().st_mtime_ns, other.stat().st_mtime_ns
    made.unlink()
    prepare(project, 4)
    project.run("judge")
    assert outcomes(project) == dict.fromkeys("1234", "static")
    assert made.stat().st_mtime_ns > times[0]
    assert other.stat().st_mtime_ns == times[1]


@pytest.mark.long
def test_one_prompt_that_is_not_understood_stops_no_other(
    project: Project, sandboxed: None
) -> None:
    prepare(project, 1, 2)
    rows = json.loads((project.folder / "prompts.json").read_text())
    rows[1]["prompt_context"] = "Draw me a sheep"
    (project.folder / "prompts.json").write_text(json.dumps(rows))
    # As left behind by who has commented all keys out.
    (project.folder / "config.yaml").open("a").write("judge:\n")
    command = [sys.executable, "-m", "diffaccel", "judge", "gen_code", "--prompts", "prompts.json"]
    made = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert outcomes(project) == {"1": "static", "2": "unparsed"}
    assert "2: unparsed: " in made.stdout and "Draw me a sheep" in made.stdout
    table = (project.results / "judge/pass_rates.csv").read_text().splitlines()
    assert table[-1].startswith("all,2,1,"), "two are there, one is judged"


def test_nothing_to_judge_is_said_at_once(project: Project) -> None:
    prepare(project)
    project.configure(judge={"prompts": "prompts.json"})
    assert "there is nothing to judge: gen_code has no" in project.run("--dry-run", ok=False)


@pytest.fixture
def sandboxed() -> None:
    try:
        sandbox.how(True)
    except sandbox.SandboxError as error:
        pytest.skip(str(error))
