# What all stages need: the experiment as the configuration says it, and what jobs are told of it
import json
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from diffaccel.machine import gpus, jobs, stopping
from diffaccel.benchmark import ground_truth, prompt_files, prompt_set
from diffaccel.run import outlook, stores
from diffaccel.experiment.config import load
from diffaccel.errors import InputError
from diffaccel.store.jsonio import to_json, write_record
from diffaccel.benchmark.judge.records import Judged, not_understood
from diffaccel.benchmark.judge.table import write_pass_rates
from diffaccel.experiment.plan import Experiment
from diffaccel.report.table import calm_terminal, show_failures, show_summary
from diffaccel.run.slurm import end_jobs
from diffaccel.search import found
from diffaccel.stages import collect, database

calm_terminal()
try:
    EXPERIMENT = Experiment(load(config))
    TASKS, JUDGED = EXPERIMENT.tasks, EXPERIMENT.judged
    GPUS = len(gpus.visible())
except InputError as error:
    raise WorkflowError(str(error))
# None where jobs are submitted: each then has the cores of the machine that it gets.
CORES = workflow.resource_settings.cores
if CORES is None and EXPERIMENT.config.platform == "auto":
    raise WorkflowError(
        "platform: auto is the hardware of this machine, and jobs are submitted to others: name "
        "theirs in the configuration, e.g. platform: nvidia-h100-80gb-hbm3"
    )

R = f"{EXPERIMENT.config.results}/{EXPERIMENT.platform}"
try:
    stores.mend_if_told(Path(R))
    stores.age(Path(R), EXPERIMENT.requests())
except (InputError, OSError) as error:
    raise WorkflowError(str(error))
# Whoever started this run shows it, and its end.
FOLLOWED = jobs.FOLLOWED in os.environ
TIMED_GPUS = 1 if EXPERIMENT.on_gpu else 0
SEARCHES = [
    f"{R}/search/{configuration}.json" for configuration in EXPERIMENT.configurations
]
if EXPERIMENT.misunderstood:
    SEARCHES.append(f"{R}/search/misunderstood.json")
JUDGEMENTS = [f"{R}/judge/{configuration}.json" for configuration in JUDGED]
if EXPERIMENT.given.unparsed:
    JUDGEMENTS.append(f"{R}/judge/unparsed.json")


def note_run(log):
    """Notes what this run is to make, for whoever looks."""
    jobs.begin(
        Path(R),
        [str(path) for job in workflow.dag.jobs for path in job.output],
        [str(path) for job in workflow.dag.needrun_jobs() for path in job.output],
        os.environ.get(jobs.FOLLOWED, log[0]),
        at_once=outlook.at_once(EXPERIMENT, CORES, GPUS),
        **EXPERIMENT.about(),
    )


def get_configuration(wildcards):
    return (EXPERIMENT.configurations | EXPERIMENT.speeds | JUDGED)[
        wildcards.configuration
    ]


def get_threads(wildcards):
    return outlook.threads_of(EXPERIMENT, get_configuration(wildcards), CORES)


def get_slots(wildcards):
    return outlook.slots_of(EXPERIMENT, get_configuration(wildcards), GPUS)


def get_model_files(wildcards):
    return EXPERIMENT.files(get_configuration(wildcards))


def get_links(wildcards):
    return EXPERIMENT.links(get_configuration(wildcards))


def get_sources(wildcards):
    return EXPERIMENT.sources(get_configuration(wildcards))


def get_model_record(wildcards):
    return f"{R}/models/{get_configuration(wildcards).model}.json"


def get_model_job(wildcards):
    return json.dumps(EXPERIMENT.model_job(wildcards.model))


def get_baseline_job(wildcards):
    return json.dumps(EXPERIMENT.baseline_job(wildcards.configuration))


def get_speed_job(wildcards):
    return json.dumps(EXPERIMENT.speed_job(wildcards.configuration))


def get_search_job(wildcards):
    return json.dumps(EXPERIMENT.search_job(wildcards.configuration))


def get_judge_job(wildcards):
    return json.dumps(EXPERIMENT.judge_job(wildcards.configuration))


def get_judged_scripts(wildcards):
    return EXPERIMENT.scripts(wildcards.configuration)


def get_unparsed(wildcards):
    return json.dumps(
        [[each.id, each.sentence] for each, _ in EXPERIMENT.given.unparsed]
    )


def get_pass_rates():
    return [f"{R}/judge/pass_rates.csv"] if JUDGEMENTS else []


def get_baseline(wildcards):
    return {
        "baseline": f"{R}/baseline/{wildcards.configuration}.json",
        "images": f"{R}/baseline/{wildcards.configuration}",
    }


def get_found(wildcards):
    return f"{R}/search/{TASKS[wildcards.task].cell.configuration.slug}.json"


def get_heldout_files(wildcards):
    return EXPERIMENT.heldout(get_configuration(wildcards))[1]


def get_verify_job(wildcards):
    return json.dumps(EXPERIMENT.verify_job(wildcards.configuration))


def get_task_baseline(wildcards):
    return f"{R}/baseline/{TASKS[wildcards.task].cell.configuration.slug}.json"


def get_asked(wildcards):
    return json.dumps([to_json(task) for task in EXPERIMENT.listed])


def get_latencies(wildcards):
    return [to_json(latency) for latency in prompt_set.measured(EXPERIMENT)]


def get_searched(wildcards):
    """Everything that was ever searched, on any platform, and when."""
    found = Path(EXPERIMENT.config.results).glob("*/search/*.json")
    return sorted(f"{path} {path.stat().st_mtime_ns}" for path in found)


def get_met(configuration):
    with open(checkpoints.feasible.get(configuration=configuration).output[0]) as file:
        return [line.strip() for line in file]


def get_scripts_of(configuration, wildcards):
    return [f"{R}/code/{task}.py" for task in get_met(configuration)]


def get_scripts(wildcards):
    return get_scripts_of(wildcards.configuration, wildcards)


def get_proofs_of(configuration, wildcards):
    return [f"{R}/verify/{configuration}.json"] if get_met(configuration) else []


def get_verifications(wildcards):
    return [
        verification
        for configuration in EXPERIMENT.configurations
        for verification in get_proofs_of(configuration, wildcards)
    ]


def each_configuration(get):
    """An input function for each configuration: what one of them cannot tell yet, or never will, holds up
    none of the others."""
    return [partial(get, configuration) for configuration in EXPERIMENT.configurations]


def get_made():
    """Every result that is made before scripts are, by name: Snakemake would not miss a deleted
    file that is only on the way."""
    return [
        *(
            f"{R}/models/{configuration.model}.json"
            for configuration in EXPERIMENT.configurations.values()
        ),
        *(
            f"{R}/baseline/{configuration}.json"
            for configuration in EXPERIMENT.configurations
        ),
        *SEARCHES,
    ]


def get_speeds():
    return [f"{R}/speed/{configuration}.json" for configuration in EXPERIMENT.speeds]


def get_stores():
    """What is gathered of all cells and tasks; nothing where models are only timed."""
    names = ("speedup_bounds.json", "search_params.json", "tasks/tasks.json")
    return [f"{R}/{name}" for name in names] if TASKS else []


def get_folder(wildcards):
    return R


def get_summary():
    """What shows everything: the tables, and the page."""
    names = ("summary.csv", "serving.csv", "report.html")
    return [f"{R}/{name}" for name in names] if TASKS else []
