# The benchmark's prompts, made in a second: category V of what is measured already, which is a param
# and no input, so that nothing is measured for them.
localrules:
    prompts,


rule prompts:
    input:
        prompt_set.GRID,
    output:
        expand(
            f"{EXPERIMENT.config.results}/benchmark/{{name}}", name=prompt_files.NAMES
        ),
    log:
        f"{R}/logs/prompts.log",
    params:
        latencies=get_latencies,
    message:
        "prompts of the benchmark"
    run:
        print(prompt_files.write(Path(output[0]).parent, EXPERIMENT))
