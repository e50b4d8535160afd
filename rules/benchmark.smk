# The benchmark's own scripts, one a prompt that can be met, and what became of each prompt. They are
# rendered from what was searched already, which is a param and no input, so that nothing is measured
# for them.
localrules:
    ground_truth,


rule ground_truth:
    input:
        f"{EXPERIMENT.config.results}/benchmark/{prompt_files.LINES}",
    output:
        scripts=directory(
            f"{EXPERIMENT.config.results}/benchmark/{ground_truth.SCRIPTS}"
        ),
        record=f"{EXPERIMENT.config.results}/benchmark/{ground_truth.RECORD}",
    log:
        f"{R}/logs/ground_truth.log",
    params:
        known=get_searched,
    message:
        "scripts of the benchmark"
    run:
        print(ground_truth.write_for(EXPERIMENT, Path(input[0]), Path(output.record)))
