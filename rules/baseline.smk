# The unaccelerated pipeline: images, scores and times, one job a (model, scheduler, steps). What was
# measured of it is kept outside the outputs, as all is.
rule baseline:
    input:
        files=get_model_files,
        model=get_model_record,
    output:
        record=f"{R}/baseline/{{configuration}}.json",
        images=directory(f"{R}/baseline/{{configuration}}"),
    log:
        f"{R}/logs/baseline/{{configuration}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
        timed=get_slots,
    params:
        job=get_baseline_job,
        links=get_links,
        kept=f"{R}/journal/baseline/{{configuration}}",
    message:
        "baseline of {wildcards.configuration}"
    shell:
        "python -m diffaccel baseline --job {params.job:q} --model {input.model:q}"
        " --images {output.images:q} --kept {params.kept:q} --out {output.record:q} --log {log:q}"
