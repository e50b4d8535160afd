# The self-contained script of a task that was met. A fraction of a second, so never worth a job of a
# cluster.
localrules:
    code,


rule code:
    input:
        found=get_found,
        baseline=get_task_baseline,
    output:
        f"{R}/code/{{task}}.py",
    log:
        f"{R}/logs/code/{{task}}.log",
    conda:
        "../envs/diffaccel.yaml"
    message:
        "script of {wildcards.task}"
    shell:
        "python -m diffaccel code --task {wildcards.task:q} --found {input.found:q}"
        " --baseline {input.baseline:q} --out {output:q} --log {log:q}"
