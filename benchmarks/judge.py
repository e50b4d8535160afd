"""What the judge says of our own scripts: all of them should pass.

Takes an experiment that was run. Its own grid is put into words, as the benchmark does with that of
the real models; the scripts that its results give are judged as if somebody else had written them.
Run by ``python -m benchmarks.judge``, in the folder of the experiment's config.yaml.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from diffaccel import config, ground_truth, prompt_set
from diffaccel.errors import InputError
from diffaccel.jsonio import write_json
from diffaccel.plan import Experiment


def render(experiment: Experiment, folder: Path) -> Path:
    """Writes prompts and scripts; the file of the prompts."""
    made = prompt_set.prompts(experiment, prompt_set.measured(experiment))
    results = Path(experiment.config.results)
    print(ground_truth.write(folder, made, results, experiment.platform, experiment.specs))
    path = folder / "prompts.json"
    write_json(path, [{"prompt_id": each.id, "prompt_context": each.text} for each in made])
    return path


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
    raise SystemExit(subprocess.call([sys.executable, "-m", "diffaccel", *command]))


if __name__ == "__main__":
    main()
