# The stores that users read: bounds and parameters of all cells that were ever searched here. They are
# made from a journal of what was found, and so are whole whenever they are made.
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
        database.bounds(Path(R), Path(output[0]))


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
        database.params(Path(R), Path(output[0]))
