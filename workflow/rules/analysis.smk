localrules:
    collect,
    fit,
    tables,
    gates,
    figure_scaling,
    figure_gates,
    figure_coverage,
    figure_linear,
    figure_error_law,


# Where no cell can take the bench's patches, a study with `linear` has no pretrained encoders to draw.
HEADS = any(
    (nodes.cell_behind[cell] or "").startswith(f"{RESULTS}/pretrain/")
    for cell in nodes.linear_cells
)
GATES = ["<results>/tables/synthetic_gates.csv"] if study.gates else []
TABLES = ["<results>/tables/cells.csv", *GATES]
FIGURES = [
    "<results>/figures/scaling.pdf",
    *(["<results>/figures/synthetic_gates.pdf"] if study.gates else []),
    *(f"<results>/figures/patches_{task}.pdf" for task in study.finetune.tasks),
    *(f"<results>/figures/errors_{task}.pdf" for task in study.finetune.tasks),
    *(
        ["<results>/figures/linear.pdf", "<results>/figures/error_law.pdf"]
        if HEADS
        else []
    ),
]


# The ledger names every result and the fingerprint it must carry, so that a result made by another configuration
# is refused even when Snakemake's own memory of it (.snakemake/) is lost.
rule collect:
    input:
        results_of("all", "collect"),
    output:
        table="<results>/results.csv",
        ledger="<results>/ledger.json",
    log:
        "<logs>/collect.log",
    benchmark:
        "<logs>/benchmarks/collect.tsv"
    params:
        ledger=lambda wildcards: ledger_of("all"),
    message:
        "Collecting all results"
    shell:
        command("collect --ledger {params.ledger} --out {output.table}")


rule fit:
    input:
        "<results>/results.csv",
    output:
        "<results>/fits/laws.json",
    log:
        "<logs>/fit.log",
    benchmark:
        "<logs>/benchmarks/fit.tsv"
    params:
        spec=lambda wildcards: study.fit.canonical(),
        corpus=WORLD_CORPUS,
    message:
        "Fitting scaling laws"
    shell:
        command(
            "laws --spec {params.spec} --corpus {params.corpus} --results {input} --out {output}"
        )


rule tables:
    input:
        results="<results>/results.csv",
        laws="<results>/fits/laws.json",
    output:
        "<results>/tables/cells.csv",
    log:
        "<logs>/tables.log",
    benchmark:
        "<logs>/benchmarks/tables.tsv"
    message:
        "Writing the tables"
    shell:
        command(
            'tables --results {input.results} --laws {input.laws} --out "$(dirname {output})"'
        )


rule gates:
    input:
        "<results>/results.csv",
    output:
        "<results>/tables/synthetic_gates.csv",
    log:
        "<logs>/gates.log",
    benchmark:
        "<logs>/benchmarks/gates.tsv"
    params:
        spec=lambda wildcards: study.gates.canonical(),
        corpus=WORLD_CORPUS,
    message:
        "Checking what the synthetic Earth must show"
    shell:
        command(
            "gates --spec {params.spec} --corpus {params.corpus} --results {input} --out {output}"
        )


rule figure_scaling:
    input:
        results="<results>/results.csv",
        laws="<results>/fits/laws.json",
        gates=GATES,
    output:
        pdf=report(
            "<results>/figures/scaling.pdf",
            caption="../report/scaling.rst",
            category="Scaling",
        ),
        png="<results>/figures/scaling.png",
        csv="<results>/figures/scaling.csv",
    log:
        "<logs>/figure_scaling.log",
    benchmark:
        "<logs>/benchmarks/figure_scaling.tsv"
    params:
        spec=lambda wildcards: study.figures.canonical(),
    message:
        "Drawing the scaling figure"
    shell:
        command(
            "figure-scaling --spec {params.spec} --results {input.results} --laws {input.laws} "
            "--out {output.pdf}"
        )


rule figure_gates:
    input:
        gates="<results>/tables/synthetic_gates.csv",
        results="<results>/results.csv",
    output:
        pdf=report(
            "<results>/figures/synthetic_gates.pdf",
            caption="../report/synthetic_gates.rst",
            category="Synthetic Earth",
        ),
        png="<results>/figures/synthetic_gates.png",
        csv="<results>/figures/synthetic_gates.csv",
    log:
        "<logs>/figure_gates.log",
    benchmark:
        "<logs>/benchmarks/figure_gates.tsv"
    params:
        spec=lambda wildcards: study.figures.canonical(),
    message:
        "Drawing the gates of the synthetic Earth"
    shell:
        command(
            "figure-gates --spec {params.spec} --gates {input.gates} --results {input.results} "
            "--out {output.pdf}"
        )


# Drawn when asked for: `snakemake results/figures/coverage_majortom.pdf`.
rule figure_coverage:
    input:
        "data/{name}/ledger.csv",
    output:
        pdf="<results>/figures/coverage_{name}.pdf",
        png="<results>/figures/coverage_{name}.png",
        csv="<results>/figures/coverage_{name}.csv",
    log:
        "<logs>/figure_coverage_{name}.log",
    benchmark:
        "<logs>/benchmarks/figure_coverage_{name}.tsv"
    params:
        spec=lambda wildcards: study.figures.canonical(),
    message:
        "Drawing the kept and dropped tiles of {wildcards.name}"
    shell:
        command(
            "figure-coverage --spec {params.spec} --ledger {input} --out {output.pdf}"
        )


rule figure_linear:
    input:
        "<results>/results.csv",
    output:
        pdf=report(
            "<results>/figures/linear.pdf",
            caption="../report/linear.rst",
            category="Linear heads",
        ),
        png="<results>/figures/linear.png",
        csv="<results>/figures/linear.csv",
    log:
        "<logs>/figure_linear.log",
    benchmark:
        "<logs>/benchmarks/figure_linear.tsv"
    params:
        spec=lambda wildcards: study.figures.canonical(),
        corpus=WORLD_CORPUS,
    message:
        "Drawing linear heads on frozen encoders"
    shell:
        command(
            "figure-linear --spec {params.spec} --corpus {params.corpus} --results {input} "
            "--out {output.pdf}"
        )


rule figure_error_law:
    input:
        "<results>/results.csv",
    output:
        pdf=report(
            "<results>/figures/error_law.pdf",
            caption="../report/error_law.rst",
            category="Linear heads",
        ),
        png="<results>/figures/error_law.png",
        csv="<results>/figures/error_law.csv",
    log:
        "<logs>/figure_error_law.log",
    benchmark:
        "<logs>/benchmarks/figure_error_law.tsv"
    params:
        spec=lambda wildcards: study.figures.canonical(),
    message:
        "Drawing downstream error against pretraining loss"
    shell:
        command(
            "figure-error-law --spec {params.spec} --results {input} --out {output.pdf}"
        )
