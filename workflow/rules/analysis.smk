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


GATES = ["results/tables/synthetic_gates.csv"] if study.gates else []
TABLES = ["results/tables/cells.csv", *GATES]
FIGURES = [
    "results/figures/scaling.pdf",
    *(["results/figures/synthetic_gates.pdf"] if study.gates else []),
    *(f"results/figures/patches_{task}.pdf" for task in study.finetune.tasks),
    *(f"results/figures/errors_{task}.pdf" for task in study.finetune.tasks),
    *(["results/figures/linear.pdf"] if study.linear else []),
    *(["results/figures/error_law.pdf"] if study.linear else []),
]


# The ledger names every result and the fingerprint it must carry, so that a result made by another configuration
# is refused even when Snakemake's own memory of it (.snakemake/) is lost.
rule collect:
    input:
        PRETRAIN_RESULTS,
        ORACLE_RESULTS,
        FINETUNE_RESULTS,
        LINEAR_RESULTS,
        TRIVIAL_RESULTS,
        ledger="results/ledger.json",
    output:
        "results/results.csv",
    log:
        "logs/collect.log",
    benchmark:
        "logs/benchmarks/collect.tsv"
    message:
        "Collecting all results"
    shell:
        "geoladder --log {log:q} collect --ledger {input.ledger:q} --out {output:q}"


rule fit:
    input:
        "results/results.csv",
    output:
        "results/fits/laws.json",
    log:
        "logs/fit.log",
    benchmark:
        "logs/benchmarks/fit.tsv"
    params:
        spec=study.fit.canonical(),
        corpus=WORLD_CORPUS,
    message:
        "Fitting scaling laws"
    shell:
        "geoladder --log {log:q} laws --spec {params.spec:q} --corpus {params.corpus:q} --results {input:q} --out {output:q}"


rule tables:
    input:
        results="results/results.csv",
        laws="results/fits/laws.json",
    output:
        "results/tables/cells.csv",
    log:
        "logs/tables.log",
    benchmark:
        "logs/benchmarks/tables.tsv"
    message:
        "Writing the tables"
    shell:
        'geoladder --log {log:q} tables --results {input.results:q} --laws {input.laws:q} --out "$(dirname {output:q})"'


rule gates:
    input:
        "results/results.csv",
    output:
        "results/tables/synthetic_gates.csv",
    log:
        "logs/gates.log",
    benchmark:
        "logs/benchmarks/gates.tsv"
    params:
        spec=study.gates.canonical() if study.gates else None,
        corpus=WORLD_CORPUS,
    message:
        "Checking what the synthetic Earth must show"
    shell:
        "geoladder --log {log:q} gates --spec {params.spec:q} --corpus {params.corpus:q} --results {input:q} --out {output:q}"


rule figure_scaling:
    input:
        results="results/results.csv",
        laws="results/fits/laws.json",
        gates=GATES,
    output:
        pdf=report(
            "results/figures/scaling.pdf",
            caption="../report/scaling.rst",
            category="Scaling",
        ),
        png="results/figures/scaling.png",
        csv="results/figures/scaling.csv",
    log:
        "logs/figure_scaling.log",
    benchmark:
        "logs/benchmarks/figure_scaling.tsv"
    params:
        spec=study.figures.canonical(),
    message:
        "Drawing the scaling figure"
    shell:
        "geoladder --log {log:q} figure-scaling --spec {params.spec:q} --results {input.results:q}"
        " --laws {input.laws:q} --out {output.pdf:q}"


rule figure_gates:
    input:
        gates="results/tables/synthetic_gates.csv",
        results="results/results.csv",
    output:
        pdf=report(
            "results/figures/synthetic_gates.pdf",
            caption="../report/synthetic_gates.rst",
            category="Synthetic Earth",
        ),
        png="results/figures/synthetic_gates.png",
        csv="results/figures/synthetic_gates.csv",
    log:
        "logs/figure_gates.log",
    benchmark:
        "logs/benchmarks/figure_gates.tsv"
    params:
        spec=study.figures.canonical(),
    message:
        "Drawing the gates of the synthetic Earth"
    shell:
        "geoladder --log {log:q} figure-gates --spec {params.spec:q} --gates {input.gates:q}"
        " --results {input.results:q} --out {output.pdf:q}"


# Drawn when asked for: `snakemake results/figures/coverage_majortom.pdf`.
rule figure_coverage:
    input:
        "data/{name}/ledger.csv",
    output:
        pdf="results/figures/coverage_{name}.pdf",
        png="results/figures/coverage_{name}.png",
        csv="results/figures/coverage_{name}.csv",
    log:
        "logs/figure_coverage_{name}.log",
    benchmark:
        "logs/benchmarks/figure_coverage_{name}.tsv"
    params:
        spec=study.figures.canonical(),
    message:
        "Drawing the kept and dropped tiles of {wildcards.name}"
    shell:
        "geoladder --log {log:q} figure-coverage --spec {params.spec:q} --ledger {input:q} --out {output.pdf:q}"


rule figure_linear:
    input:
        "results/results.csv",
    output:
        pdf=report(
            "results/figures/linear.pdf",
            caption="../report/linear.rst",
            category="Linear heads",
        ),
        png="results/figures/linear.png",
        csv="results/figures/linear.csv",
    log:
        "logs/figure_linear.log",
    benchmark:
        "logs/benchmarks/figure_linear.tsv"
    params:
        spec=study.figures.canonical(),
        corpus=WORLD_CORPUS,
    message:
        "Drawing linear heads on frozen encoders"
    shell:
        "geoladder --log {log:q} figure-linear --spec {params.spec:q} --corpus {params.corpus:q}"
        " --results {input:q} --out {output.pdf:q}"


rule figure_error_law:
    input:
        "results/results.csv",
    output:
        pdf=report(
            "results/figures/error_law.pdf",
            caption="../report/error_law.rst",
            category="Linear heads",
        ),
        png="results/figures/error_law.png",
        csv="results/figures/error_law.csv",
    log:
        "logs/figure_error_law.log",
    benchmark:
        "logs/benchmarks/figure_error_law.tsv"
    params:
        spec=study.figures.canonical(),
    message:
        "Drawing downstream error against pretraining loss"
    shell:
        "geoladder --log {log:q} figure-error-law --spec {params.spec:q} --results {input:q} --out {output.pdf:q}"
