# Figures and tables of the paper from its digitised numbers; nothing is trained for them.
PUBLISHED_FIGURES = expand("results/published/figure{number}.pdf", number=range(4, 23))
PUBLISHED_TABLES = ["results/published/table1.csv", "results/published/table2.csv"]
# Runs on the real bench can stand beside the paper's; those on the synthetic one have another world.
BESIDE = ["results/results.csv"] if study.bench.source == "phileo" else []


localrules:
    published,
    figure_published,
    tables_published,


rule published:
    input:
        PUBLISHED_FIGURES,
        PUBLISHED_TABLES,


rule figure_published:
    input:
        results=BESIDE,
    output:
        pdf=report(
            "results/published/figure{number}.pdf",
            caption="../report/published.rst",
            category="The paper",
        ),
        png="results/published/figure{number}.png",
        csv="results/published/figure{number}.csv",
    log:
        "logs/figure_published_{number}.log",
    benchmark:
        "logs/benchmarks/figure_published_{number}.tsv"
    wildcard_constraints:
        number=r"\d+",
    params:
        spec=study.figures.canonical(),
        results=["--results", *BESIDE] if BESIDE else [],
    message:
        "Drawing figure {wildcards.number} of the paper"
    shell:
        "geoladder --log {log:q} figure-published --figure {wildcards.number:q} --spec {params.spec:q}"
        " {params.results:q} --out {output.pdf:q}"


rule tables_published:
    output:
        PUBLISHED_TABLES,
    log:
        "logs/tables_published.log",
    benchmark:
        "logs/benchmarks/tables_published.tsv"
    message:
        "Writing the paper's tables"
    shell:
        'geoladder --log {log:q} tables-published --out "$(dirname {output[0]:q})"'
