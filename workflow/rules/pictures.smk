localrules:
    figure_patches,


def pictured(wildcards):
    """Results whose predictions are shown: those of the first seed at every n of the curves."""
    seed, n = study.finetune.seeds[0], study.finetune.n
    return [
        file
        for file, spec in nodes.finetune.items()
        if spec.task == wildcards.task and spec.seed == seed and spec.n in n
    ]


# Contact sheets of fixed test patches: `results/figures/patches_roads.pdf`, and `errors_roads.pdf` of the errors.
rule figure_patches:
    input:
        results=pictured,
        bench="data/bench/index.parquet",
    output:
        pdf="results/figures/{show}_{task}.pdf",
        png="results/figures/{show}_{task}.png",
        csv="results/figures/{show}_{task}.csv",
    log:
        "logs/figure_{show}_{task}.log",
    benchmark:
        "logs/benchmarks/figure_{show}_{task}.tsv"
    wildcard_constraints:
        show="patches|errors",
    params:
        spec=study.figures.canonical(),
        folder=bench_folder(),
    message:
        "Drawing the {wildcards.show} of {wildcards.task} at fixed test patches"
    shell:
        "geoladder --log {log:q} figure-patches --spec {params.spec:q} --task {wildcards.task:q}"
        " --show {wildcards.show:q} --bench {params.folder:q} --bench-index {input.bench:q}"
        " --results {input.results:q} --out {output.pdf:q}"
