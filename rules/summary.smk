# The tables over everything: what became of each task, and how each script serves.
localrules:
    summary,
    serving,


rule summary:
    input:
        searches=SEARCHES,
        verifications=get_verifications,
    output:
        report(f"{R}/summary.csv", caption="../report/summary.rst", category="Tasks"),
    log:
        f"{R}/logs/summary.log",
    message:
        "summary"
    run:
        collect.write_summary(
            collect.load(input.searches), input.verifications, output[0]
        )


rule serving:
    input:
        verifications=get_verifications,
    output:
        report(f"{R}/serving.csv", caption="../report/serving.rst", category="Tasks"),
    log:
        f"{R}/logs/serving.log",
    message:
        "serving"
    run:
        collect.write_serving(input.verifications, output[0])
