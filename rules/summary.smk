# The table over everything.
localrules:
    summary,


rule summary:
    input:
        frontiers=expand(f"{R}/frontier/{{cell}}.json", cell=EXPERIMENT.cells),
        answers=expand(f"{R}/answers/{{task}}.json", task=TASKS),
        verdicts=get_verdicts,
    output:
        f"{R}/summary.csv",
    log:
        f"{R}/logs/summary.log",
    message:
        "summary"
    run:
        collect.write_summary(input.frontiers, input.answers, input.verdicts, output[0])
