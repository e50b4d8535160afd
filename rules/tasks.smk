# Tasks made from the bounds and given by the user, and which of them can be met.
localrules:
    tasks,
    misunderstood,
    feasible,


rule tasks:
    input:
        SEARCHES,
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


rule misunderstood:
    output:
        f"{R}/search/misunderstood.json",
    log:
        f"{R}/logs/misunderstood.log",
    params:
        asked=get_asked,
    message:
        "sentences that were not understood"
    run:
        collect.misunderstood(EXPERIMENT.misunderstood, output[0])


# Which tasks have a script is known only when all are answered: the one checkpoint there is.
checkpoint feasible:
    input:
        SEARCHES,
    output:
        f"{R}/tasks/feasible.txt",
    log:
        f"{R}/logs/feasible.log",
    params:
        asked=get_asked,
    message:
        "which tasks can be met"
    run:
        collect.feasible(EXPERIMENT.scripted, input, output[0])
