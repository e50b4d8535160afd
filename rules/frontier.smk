# How far a cell can go: candidates are measured until the bound and all targets are decided.
# Measurements are kept in the journal, outside the outputs, so that a killed job loses at most one.
rule frontier:
    input:
        unpack(get_cell_baseline),
    output:
        f"{R}/frontier/{{cell}}.json",
    log:
        f"{R}/logs/frontier/{{cell}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
        timed=1,
    params:
        job=get_frontier_job,
        journal=f"{R}/journal/{{cell}}.jsonl",
    message:
        "frontier of {wildcards.cell}"
    shell:
        "python -m diffaccel frontier --job {params.job:q} --baseline {input.baseline:q}"
        " --images {input.images:q} --journal {params.journal:q} --out {output:q} --log {log:q}"
