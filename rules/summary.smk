# The table over everything.
localrules:
    summary,


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
