# How fast an untrained model of full size is: all candidates of a (model, scheduler, steps) in one job,
# which loads it once. Rows are kept in the journal: a killed job loses at most those in flight.
rule speed:
    input:
        get_model_files,
    output:
        f"{R}/speed/{{configuration}}.json",
    log:
        f"{R}/logs/speed/{{configuration}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
        timed=get_slots,
    params:
        job=get_speed_job,
        journal=f"{R}/journal/speed/{{configuration}}.jsonl",
    message:
        "speed of {wildcards.configuration}"
    shell:
        "python -m diffaccel speed --job {params.job:q} --journal {params.journal:q}"
        " --out {output:q} --log {log:q}"
