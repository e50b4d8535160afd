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
        collect.write_summary(
            map(Path, input.frontiers),
            map(Path, input.answers),
            map(Path, input.verdicts),
            Path(output[0]),
        )
