# The table over everything.
localrules:
    summary,


rule summary:
    input:
        searches=SEARCHES,
        proofs=get_proofs,
    output:
        f"{R}/summary.csv",
    log:
        f"{R}/logs/summary.log",
    message:
        "summary"
    run:
        collect.write_summary(input.searches, input.proofs, output[0])
