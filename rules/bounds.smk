# The stores that users read: bounds and parameters of all cells.
localrules:
    bounds,
    params,


rule bounds:
    input:
        SEARCHES,
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
        SEARCHES,
    output:
        f"{R}/search_params.json",
    log:
        f"{R}/logs/params.log",
    message:
        "parameter database"
    run:
        collect.params(input, output[0])
