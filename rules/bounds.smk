# The stores that users read: bounds and parameters of all cells.
localrules:
    bounds,
    params,


rule bounds:
    input:
        expand(f"{R}/frontier/{{cell}}.json", cell=EXPERIMENT.cells),
    output:
        f"{R}/speedup_bounds.json",
    log:
        f"{R}/logs/bounds.log",
    message:
        "bounds of all cells"
    run:
        collect.bounds(input, output[0])


rule params:
    input:
        frontiers=expand(f"{R}/frontier/{{cell}}.json", cell=EXPERIMENT.cells),
        answers=expand(f"{R}/answers/{{task}}.json", task=TASKS),
    output:
        f"{R}/search_params.json",
    log:
        f"{R}/logs/params.log",
    message:
        "parameter database"
    run:
        collect.params(input.frontiers, input.answers, output[0])
