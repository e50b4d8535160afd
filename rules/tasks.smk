# Tasks made from the bounds and given by the user, and the answer to each.
localrules:
    tasks,
    feasible,


rule tasks:
    input:
        expand(f"{R}/frontier/{{cell}}.json", cell=EXPERIMENT.cells),
    output:
        f"{R}/tasks/tasks.json",
    log:
        f"{R}/logs/tasks.log",
    params:
        asked=get_asked,
    message:
        "tasks"
    run:
        collect.tasks(EXPERIMENT.scripted, input, output[0])


rule answer:
    input:
        unpack(get_task_records),
    output:
        f"{R}/answers/{{task}}.json",
    log:
        f"{R}/logs/answers/{{task}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
    params:
        job=get_answer_job,
        records=get_answer_flags,
        journal=get_task_journal,
    message:
        "answer to {wildcards.task}"
    shell:
        "python -m diffaccel answer --job {params.job:q} {params.records}"
        " --journal {params.journal:q} --out {output:q} --log {log:q}"


# Which tasks have a script is known only when all are answered: the one checkpoint there is.
checkpoint feasible:
    input:
        expand(
            f"{R}/answers/{{task}}.json",
            task=[task.id for task in EXPERIMENT.scripted],
        ),
    output:
        f"{R}/tasks/feasible.txt",
    log:
        f"{R}/logs/feasible.log",
    message:
        "which tasks can be met"
    run:
        collect.feasible(input, output[0])
