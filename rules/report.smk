# The page that people look at, and its parts for Snakemake's own report (snakemake --report).
report: "../report/workflow.rst"


localrules:
    report,


rule report:
    input:
        searches=SEARCHES,
        verifications=get_verifications,
    output:
        page=report(f"{R}/report.html", caption="../report/page.rst", category="Report"),
        frontiers=report(
            expand(
                f"{R}/report/{{configuration}}.svg",
                configuration=EXPERIMENT.configurations,
            ),
            caption="../report/frontier.rst",
            category="Frontiers",
        ),
        images=report(
            expand(
                f"{R}/report/{{configuration}}.png",
                configuration=EXPERIMENT.configurations,
            ),
            caption="../report/images.rst",
            category="Images",
        ),
        bounds=report(
            f"{R}/report/bounds.csv", caption="../report/bounds.rst", category="Bounds"
        ),
        trust=report(
            f"{R}/report/trust.csv",
            caption="../report/trust.rst",
            category="How far to trust it",
        ),
    log:
        f"{R}/logs/report.log",
    conda:
        "../envs/diffaccel.yaml"
    params:
        results=get_folder,
    message:
        "report"
    shell:
        "python -m diffaccel report {params.results:q} --parts --log {log:q}"
