# The tables over everything: what became of each task, and how each script serves.
localrules:
    summary,
    serving,


rule summary:
    input:
        searches=SEARCHES,
        proofs=get_proofs,
    output:
        report(f"{R}/summary.csv", caption="../report/summary.rst", category="Tasks"),
    log:
        f"{R}/logs/summary.log",
    message:
        "summary"
    run:
        collect.write_summary(collect.load(input.searches), input.proofs, output[0])


rule serving:
    input:
        proofs=get_proofs,
    output:
        report(f"{R}/serving.csv", caption="../report/serving.rst", category="Tasks"),
    log:
        f"{R}/logs/serving.log",
    message:
        "serving"
    run:
        collect.write_serving(input.proofs, output[0])
