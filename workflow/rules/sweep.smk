localrules:
    collect_sweep,
    figure_lr,


SWEEP = f"{RESULTS}/sweep/{{corpus}}/{{architecture}}-{{size}}/seed{{seed}}/x{{factor}}"


# A cell at a multiple of its learning rate. Drawn when asked for, by a study with a `sweep`:
#   snakemake --cores all --configfile studies/lr.yaml -- results/figures/lr.pdf
use rule pretrain as sweep with:
    output:
        metrics=f"{SWEEP}/metrics.json",
        weights=temp(f"{SWEEP}/model.safetensors"),
    log:
        "<logs>/sweep/{corpus}/{architecture}-{size}/seed{seed}/x{factor}.log",
    benchmark:
        "<logs>/benchmarks/sweep/{corpus}/{architecture}-{size}/seed{seed}/x{factor}.tsv"
    params:
        spec=lambda wildcards: nodes.sweep[
            f"{SWEEP}/metrics.json".format(**wildcards)
        ].canonical(),
        data=training_data_options,
        validation=lambda wildcards, input: str(Path(input.validation).parent),
    message:
        "Pretraining {wildcards.architecture}-{wildcards.size} at {wildcards.factor} times its rate, seed {wildcards.seed}"


rule collect_sweep:
    input:
        results_of("sweep", "collect_sweep"),
    output:
        table="<results>/sweep/results.csv",
        ledger="<results>/sweep/ledger.json",
    log:
        "<logs>/collect_sweep.log",
    benchmark:
        "<logs>/benchmarks/collect_sweep.tsv"
    params:
        ledger=lambda wildcards: ledger_of("sweep"),
    message:
        "Collecting the learning-rate sweep"
    shell:
        command("collect --ledger {params.ledger} --out {output.table}")


rule figure_lr:
    input:
        "<results>/sweep/results.csv",
    output:
        pdf="<results>/figures/lr.pdf",
        png="<results>/figures/lr.png",
        csv="<results>/figures/lr.csv",
        table="<results>/tables/lr.csv",
    log:
        "<logs>/figure_lr.log",
    benchmark:
        "<logs>/benchmarks/figure_lr.tsv"
    params:
        spec=lambda wildcards: study.figures.canonical(),
    message:
        "Drawing the learning-rate sweep"
    shell:
        command(
            "figure-lr --spec {params.spec} --results {input} --table {output.table} --out {output.pdf}"
        )
