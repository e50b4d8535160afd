# Training of the mini models. Nothing depends on it: it runs only when its output is asked for by
# name (results/training/sd15.done). What it trains lies in results/training/sd15, outside the
# declared output, so that a stopped training goes on where it was.
rule train:
    output:
        touch(f"{EXPERIMENT.config.results}/training/{{family}}.done"),
    log:
        f"{EXPERIMENT.config.results}/training/{{family}}.log",
    wildcard_constraints:
        family="sd15|sd21|sdxl",
    conda:
        "../envs/diffaccel.yaml"
    threads: CORES or 1
    resources:
        gpu=1,
    params:
        folder=f"{EXPERIMENT.config.results}/training/{{family}}",
    message:
        "training of the mini model {wildcards.family}"
    shell:
        "python -m diffaccel.plugins.models.mini.train --family {wildcards.family}"
        " --compile --out {params.folder:q} > {log:q} 2>&1"
