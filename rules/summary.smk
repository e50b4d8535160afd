# The tables over everything: what became of each task, and how each script serves.
localrules:
    summary,


rule summary:
    input:
        searches=SEARCHES,
        proofs=get_proofs,
    output:
        report(f"{R}/summary.csv", caption="../report/summary.rst", category="Tasks"),
        f"{R}/serving.csv",
    log:
        f"{R}/logs/summary.log",
    message:
        "summary"
    run:
        collect.write_summary(collect.load(input.searches), input.proofs, output[0])
        collect.write_serving(input.proofs, output[1])
