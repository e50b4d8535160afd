# Scripts that somebody wrote for tasks, judged in three stages: all of a (model, scheduler, steps) in one
# job, beside its baseline pipeline. What was judged is kept in the journal, so that a script that did not
# change is not judged once more. They are not trusted, and run in a sandbox: docs/reference/judge.md.
localrules:
    unparsed,
    judge,


rule verdicts:
    input:
        scripts=get_judged_scripts,
        files=get_model_files,
        model=get_model_record,
    output:
        f"{R}/judge/{{configuration}}.json",
    log:
        f"{R}/logs/judge/{{configuration}}.log",
    conda:
        "../envs/diffaccel.yaml"
    threads: get_threads
    resources:
        gpu=TIMED_GPUS,
        timed=get_slots,
    params:
        job=get_judge_job,
        journal=f"{R}/journal/judge/{{configuration}}.jsonl",
    message:
        "judging scripts of {wildcards.configuration}"
    shell:
        "python -m diffaccel verdicts --job {params.job:q} --model {input.model:q}"
        " --journal {params.journal:q} --out {output:q} --log {log:q}"


rule unparsed:
    output:
        f"{R}/judge/unparsed.json",
    log:
        f"{R}/logs/judge/unparsed.log",
    params:
        asked=get_unparsed,
    message:
        "scripts whose prompts were not understood"
    run:
        write_record(
            Path(output[0]),
            Judged(
                None, [not_understood(*each) for each in EXPERIMENT.given.unparsed]
            ),
        )


rule judge:
    input:
        JUDGEMENTS,
    output:
        f"{R}/judge/pass_rates.csv",
    log:
        f"{R}/logs/judge.log",
    params:
        absent=len(EXPERIMENT.given.absent),
    message:
        "pass rates"
    run:
        write_pass_rates(input, params.absent, output[0])
