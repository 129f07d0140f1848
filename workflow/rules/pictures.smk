from geoladder.study.corpora import corpus_slug
from geoladder.study.arms import RANDOM


localrules:
    figure_patches,


def pictured(wildcards):
    """Results whose predictions are shown: of each arm's first seed, fine-tuned at each n of the curves, and linear."""
    seed, n = study.finetune.seeds[0], study.finetune.n
    tuned = [
        file
        for file, spec in nodes.finetune.items()
        if (spec.task, spec.seed) == (wildcards.task, seed) and spec.n in n
    ]
    arms = dict.fromkeys(point.arm for point in study.points())
    arms |= dict.fromkeys(arm._replace(corpus=RANDOM) for arm in arms)
    heads = [
        f"{RESULTS}/linear/{corpus_slug(arm.corpus)}/{arm.architecture}-{arm.size}/seed{seed}/{wildcards.task}.json"
        for arm in arms
    ]
    return tuned + [file for file in heads if file in nodes.linear]


# Contact sheets of fixed test patches: `results/figures/patches_roads.pdf`, and `errors_roads.pdf` of the errors.
rule figure_patches:
    input:
        results=pictured,
        bench="data/bench/index.parquet",
    output:
        pdf="<results>/figures/{show}_{task}.pdf",
        png="<results>/figures/{show}_{task}.png",
        csv="<results>/figures/{show}_{task}.csv",
    log:
        "<logs>/figure_{show}_{task}.log",
    benchmark:
        "<logs>/benchmarks/figure_{show}_{task}.tsv"
    wildcard_constraints:
        show="patches|errors",
    params:
        spec=lambda wildcards: study.figures.canonical(),
        folder=bench_folder,
    message:
        "Drawing the {wildcards.show} of {wildcards.task} at fixed test patches"
    shell:
        command(
            "figure-patches --spec {params.spec} --task {wildcards.task} --show {wildcards.show} --bench "
            "{params.folder} --bench-index {input.bench} --results {input.results} --out {output.pdf}"
        )
