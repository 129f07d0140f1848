localrules:
    collect_sweep,
    figure_lr,


SWEEP = "results/sweep/{corpus}/{architecture}-{size}/seed{seed}/x{factor}"


# A cell at a multiple of its learning rate. Drawn when asked for, by a study with a `sweep`:
# `snakemake --configfile studies/lr.yaml results/figures/lr.pdf`.
rule sweep:
    input:
        data=training_data,
        validation=f"data/{WORLD_CORPUS}/chips/manifest.parquet",
        stats="data/stats.json",
    output:
        metrics=f"{SWEEP}/metrics.json",
        weights=temp(f"{SWEEP}/model.safetensors"),
    log:
        "logs/sweep/{corpus}/{architecture}-{size}/seed{seed}/x{factor}.log",
    threads: study.compute.threads
    resources:
        **TRAINING_RESOURCES,
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=lambda wildcards: nodes.sweep[
            f"{SWEEP}/metrics.json".format(**wildcards)
        ].canonical(),
        data=training_data_options,
        validation=lambda wildcards, input: str(Path(input.validation).parent),
    message:
        "Pretraining {wildcards.architecture}-{wildcards.size} at {wildcards.factor} times its rate, seed {wildcards.seed}"
    shell:
        "{LAUNCH}geoladder --log {log} pretrain --spec {params.spec:q} {params.data}"
        " --validation {params.validation} --stats {input.stats} --threads {threads}"
        " {TRAINING_OPTIONS}"
        " --out $(dirname {output.metrics})"


rule collect_sweep:
    input:
        list(nodes.sweep),
        ledger="results/sweep/ledger.json",
    output:
        "results/sweep/results.csv",
    log:
        "logs/collect_sweep.log",
    message:
        "Collecting the learning-rate sweep"
    shell:
        "geoladder --log {log} collect --ledger {input.ledger} --out {output}"


rule figure_lr:
    input:
        "results/sweep/results.csv",
    output:
        pdf="results/figures/lr.pdf",
        png="results/figures/lr.png",
        csv="results/figures/lr.csv",
        table="results/tables/lr.csv",
    log:
        "logs/figure_lr.log",
    params:
        spec=study.figures.canonical(),
    message:
        "Drawing the learning-rate sweep"
    shell:
        "geoladder --log {log} figure-lr --spec {params.spec:q} --results {input} --table {output.table}"
        " --out {output.pdf}"
