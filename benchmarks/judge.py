"""What the judge says of our own scripts: all of them should pass.

Takes an experiment that was run. Its own grid is put into words, as the benchmark does with that of
the real models; the scripts that its results give are judged as if somebody else had written them.
Run by ``python -m benchmarks.judge``, in the folder of the experiment's config.yaml; ends with the
table of docs/reference/judge.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.markdown import table
from diffaccel.benchmark import ground_truth, prompt_set
from diffaccel.benchmark.judge.table import STAGES, read_judgements
from diffaccel.errors import InputError
from diffaccel.experiment import config
from diffaccel.experiment.plan import Experiment
from diffaccel.machine import devices
from diffaccel.store.jsonio import write_json


def render(experiment: Experiment, folder: Path) -> Path:
    """Writes prompts and scripts; the file of the prompts."""
    made = prompt_set.prompts(experiment, prompt_set.measured(experiment))
    results = Path(experiment.config.results)
    print(ground_truth.write(folder, made, results, experiment.platform, experiment.specs))
    path = folder / "prompts.json"
    write_json(path, [{"prompt_id": each.id, "prompt_context": each.text} for each in made])
    return path


def report(folder: Path, device: str) -> str:
    """The pass rates as a section of a document.

    Args:
        folder: of the judge's results.
    """
    said = read_judgements(sorted(folder.glob("*.json")))
    rates = pd.read_csv(folder / "pass_rates.csv")
    absent = int(rates["absent"].dropna().sum())
    ran_in = ", ".join(sorted({each.ran_in for each in said if each.ran_in}))
    shares = [*STAGES, "achievement"]
    counts = ["scripts", "judged", "undecided"]
    rows = [
        [row["category"], *(str(int(row[name])) for name in counts)]
        + ["-" if pd.isna(row[name]) else f"{row[name]:.1%}" for name in shares]
        for row in rates.to_dict("records")
    ]
    outcomes = Counter(each.outcome for each in said)
    last = max((each.date[:10] for each in said), default="")
    return (
        f"`python -m benchmarks.judge`, {device}, {ran_in}, {last}:\n\n"
        + table(["category", *counts, *shares], rows)
        + f"\n\nOf {len(said) - outcomes['skipped']} scripts {outcomes['passed']} passed, and of "
        f"{outcomes['undecided']} the timing is too noisy to tell. {absent} tasks have no script: "
        "nothing that was found meets them."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Exit status 1 where judging failed, 2 where the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__)
    parser.add_argument("rest", nargs="*", help="of snakemake's arguments, e.g. -- --cores 1")
    args = parser.parse_args(argv)
    try:
        experiment = Experiment(config.read(Path("config.yaml")))
        folder = Path(experiment.config.results) / experiment.platform / "own"
        prompts = render(experiment, folder)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    command = ["judge", str(folder / ground_truth.SCRIPTS), "--prompts", str(prompts), *args.rest]
    if status := subprocess.call([sys.executable, "-m", "diffaccel", *command]):
        raise SystemExit(status)
    print(report(folder.with_name("judge"), devices.describe()[0]))


if __name__ == "__main__":
    main()
