# What all stages need: the experiment as the configuration says it, and what jobs are told of it
import json
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

from diffaccel.config import load
from diffaccel.errors import InputError
from diffaccel.jsonio import to_json
from diffaccel.plan import Experiment
from diffaccel.report import calm_terminal, show_failures, show_summary
from diffaccel.stages import collect

calm_terminal()
try:
    EXPERIMENT = Experiment(load(config))
    TASKS = EXPERIMENT.tasks
except InputError as error:
    raise WorkflowError(str(error))

# Told by the environment, not by params: how many cells there are does not make one stale.
os.environ.update(DIFFACCEL_CELLS=str(len(EXPERIMENT.cells)))

R = f"{EXPERIMENT.config.results}/{EXPERIMENT.platform}"
ON_GPU = EXPERIMENT.platform != "cpu"
TIMED_GPUS = 1 if ON_GPU else 0


def get_setup(wildcards):
    if hasattr(wildcards, "task"):
        cell = TASKS[wildcards.task].cell
        return cell.setup if cell else None
    if hasattr(wildcards, "cell"):
        return EXPERIMENT.cells[wildcards.cell].setup
    return (EXPERIMENT.setups | EXPERIMENT.speeds)[wildcards.setup]


def get_threads(wildcards):
    setup = get_setup(wildcards)
    if ON_GPU or setup is None:
        return 1
    return EXPERIMENT.spec(setup).threads or workflow.cores or 1


def get_model_files(wildcards):
    return EXPERIMENT.files(get_setup(wildcards))


def get_model_record(wildcards):
    return f"{R}/models/{get_setup(wildcards).model}.json"


def get_model_job(wildcards):
    return json.dumps(EXPERIMENT.model_job(wildcards.model))


def get_baseline_job(wildcards):
    return json.dumps(EXPERIMENT.baseline_job(wildcards.setup))


def get_speed_job(wildcards):
    return json.dumps(EXPERIMENT.speed_job(wildcards.setup))


def get_frontier_job(wildcards):
    return json.dumps(EXPERIMENT.frontier_job(wildcards.cell))


def get_answer_job(wildcards):
    return json.dumps(EXPERIMENT.answer_job(wildcards.task))


def get_cell_baseline(wildcards):
    setup = get_setup(wildcards).slug
    return {
        "baseline": f"{R}/baseline/{setup}.json",
        "images": f"{R}/baseline/{setup}",
    }


def get_task_records(wildcards):
    cell = TASKS[wildcards.task].cell
    if cell is None:
        return {}
    return {
        "frontier": f"{R}/frontier/{cell.slug}.json",
        "baseline": f"{R}/baseline/{cell.setup.slug}.json",
        "images": f"{R}/baseline/{cell.setup.slug}",
    }


def get_answer_flags(wildcards, input):
    return " ".join(f"--{name} {shlex.quote(path)}" for name, path in input.items())


def get_task_baseline(wildcards):
    return get_task_records(wildcards).get("baseline", [])


def get_task_proof(wildcards):
    records = get_task_records(wildcards)
    return {
        "answer": f"{R}/answers/{wildcards.task}.json",
        "script": f"{R}/code/{wildcards.task}.py",
        "baseline": records["baseline"],
        "images": records["images"],
    }


def get_task_journal(wildcards):
    cell = TASKS[wildcards.task].cell
    return f"{R}/journal/{cell.slug if cell else 'none'}.jsonl"


def get_asked(wildcards):
    return json.dumps([to_json(task) for task in EXPERIMENT.scripted])


def get_met():
    if not TASKS:
        return []
    with open(checkpoints.feasible.get().output[0]) as file:
        return [line.strip() for line in file]


def get_verdicts(wildcards):
    return [f"{R}/verify/{task}.json" for task in get_met()]


def get_results(wildcards):
    """Every result by name: Snakemake would not miss a deleted file that is only on the way."""
    return [
        *(f"{R}/baseline/{setup}.json" for setup in EXPERIMENT.setups),
        *(f"{R}/frontier/{cell}.json" for cell in EXPERIMENT.cells),
        *(f"{R}/answers/{task}.json" for task in TASKS),
        *(f"{R}/code/{task}.py" for task in get_met()),
        *get_verdicts(wildcards),
        *(f"{R}/speed/{setup}.json" for setup in EXPERIMENT.speeds),
    ]


def get_stores():
    """What is gathered of all cells and tasks; nothing where models are only timed."""
    names = (
        "summary.csv",
        "speedup_bounds.json",
        "search_params.json",
        "tasks/tasks.json",
    )
    return [f"{R}/{name}" for name in names] if TASKS else []
