# How far the cells of a (model, scheduler, steps) can go, and what meets each of its tasks: one job,
# which loads the model once and times what the cells want next side by side. Measurements are kept
# in the journals, outside the outputs, so that a killed job loses at most those in flight.
rule search:
    input:
        unpack(get_baseline),
    output:
        f"{R}/search/{{configuration}}.json",
    log:
        f"{R}/logs/search/{{configuration}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
        timed=get_slots,
    params:
        job=get_search_job,
        sources=get_sources,
        journals=f"{R}/journal",
    message:
        "search of {wildcards.configuration}"
    shell:
        "python -m diffaccel search --job {params.job:q} --baseline {input.baseline:q}"
        " --images {input.images:q} --journals {params.journals:q} --out {output:q} --log {log:q}"
