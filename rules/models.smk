# A model, checked and fetched before anything long is done with it. Runs where snakemake does:
# the nodes of a cluster often have no network.
localrules:
    model,


rule model:
    output:
        f"{R}/models/{{model}}.json",
    log:
        f"{R}/logs/models/{{model}}.log",
    priority: 100
    conda:
        "../envs/diffaccel.yaml"
    params:
        job=get_model_job,
    message:
        "model {wildcards.model}"
    shell:
        "python -m diffaccel model --job {params.job:q} --out {output:q} --log {log:q}"
