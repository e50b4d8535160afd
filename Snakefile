# Finds how far diffusion pipelines can be accelerated without visible loss; see README.md.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))
# Jobs take this Python, whether its environment is activated or not, unless one is made for them; and
# import the package from there, also then.
own = {"PATH": Path(sys.executable).parent, "PYTHONPATH": sys.path[0]}
for name, first in own.items():
    os.environ[name] = os.pathsep.join(filter(None, [str(first), os.environ.get(name)]))


configfile: "config.yaml"


wildcard_constraints:
    model=r"[^/]+",
    configuration=r"[^/]+_[^/]+",
    task=r"[^/]+",


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/baseline.smk"
include: "rules/search.smk"
include: "rules/bounds.smk"
include: "rules/tasks.smk"
include: "rules/code.smk"
include: "rules/verify.smk"
include: "rules/summary.smk"
include: "rules/report.smk"
include: "rules/speed.smk"
include: "rules/judge.smk"
include: "rules/train.smk"
include: "rules/prompts.smk"
include: "rules/benchmark.smk"


rule all:
    default_target: True
    input:
        get_stores(),
        get_summary(),
        get_pass_rates(),
        get_speeds(),
        get_made(),
        each_configuration(get_scripts_of),
        each_configuration(get_proofs_of),


# The same without running the scripts again to verify them.
rule scripts:
    input:
        get_stores(),
        get_made(),
        each_configuration(get_scripts_of),


# Held as long as this process lives: one run at a time writes to a store.
HELD = []


# A killed run leaves its jobs in Slurm's queue: none of them may write beside those of this one. One
# that is interrupted may leave what it was just submitting.
onstart:
    stopping.pass_on()
    HELD.append(stores.hold(Path(R)))
    found.keep_all(Path(R))
    note_run(log)
    end_jobs(workflow.workdir_init)


onsuccess:
    jobs.end(Path(R), True)
    if not FOLLOWED:
        show_summary(R)


onerror:
    collect.gather(EXPERIMENT.configurations.values(), EXPERIMENT.listed, Path(R))
    if not FOLLOWED:
        show_failures(R, log[0])
    end_jobs(workflow.workdir_init)
    if TASKS and not stopping.told():
        shell("python -m diffaccel report {R:q} || true")
    jobs.end(Path(R), False)
