# Proof: the script itself is run and measured again.
rule verify:
    input:
        unpack(get_task_proof),
    output:
        f"{R}/verify/{{task}}.json",
    log:
        f"{R}/logs/verify/{{task}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
        timed=1,
    message:
        "verify {wildcards.task}"
    shell:
        "python -m diffaccel verify --answer {input.answer:q} --baseline {input.baseline:q}"
        " --images {input.images:q} --script {input.script:q} --out {output:q} --log {log:q}"
