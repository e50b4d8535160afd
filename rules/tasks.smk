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
        collect.ask(EXPERIMENT.listed, input, output[0], R)


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


# Which tasks have a script is known only when they are answered: a checkpoint a configuration, so that one
# that fails holds up no other's.
checkpoint feasible:
    input:
        f"{R}/search/{{configuration}}.json",
    output:
        f"{R}/feasible/{{configuration}}.txt",
    log:
        f"{R}/logs/feasible/{{configuration}}.log",
    message:
        "which tasks of {wildcards.configuration} can be met"
    run:
        collect.feasible(input[0], output[0])
