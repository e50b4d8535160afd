# The stores that users read: bounds and parameters of all cells that were ever searched here.
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
        collect.bounds(collect.readable(R), output[0])


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
        collect.params(collect.readable(R), output[0])
