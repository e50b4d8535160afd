# Verification: the scripts of a (model, scheduler, steps) are run and measured again. What is verified is kept
# in the journal, so that a script that did not change is not run once more.
rule verify:
    input:
        unpack(get_baseline),
        found=f"{R}/search/{{configuration}}.json",
        scripts=get_scripts,
        heldout=get_heldout_files,
    output:
        f"{R}/verify/{{configuration}}.json",
    log:
        f"{R}/logs/verify/{{configuration}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
        timed=get_slots,
    params:
        journal=f"{R}/journal/verify/{{configuration}}.jsonl",
        job=get_verify_job,
    message:
        "verify the scripts of {wildcards.configuration}"
    shell:
        "python -m diffaccel verify --job {params.job:q} --found {input.found:q} --baseline {input.baseline:q}"
        " --images {input.images:q} --scripts {input.scripts:q} --journal {params.journal:q}"
        " --out {output:q} --log {log:q}"
