rule pretrain:
    input:
        data=training_data,
        validation=f"data/{WORLD_CORPUS}/chips/manifest.parquet",
        stats="data/stats.json",
    output:
        weights=f"{PRETRAIN}/model.safetensors",
        card=f"{PRETRAIN}/model.json",
        log=f"{PRETRAIN}/log.csv",
        metrics=f"{PRETRAIN}/metrics.json",
    log:
        "<logs>/pretrain/{corpus}/{architecture}-{size}/seed{seed}.log",
    benchmark:
        "<logs>/benchmarks/pretrain/{corpus}/{architecture}-{size}/seed{seed}.tsv"
    threads: study.compute.threads
    resources:
        **TRAINING_RESOURCES,
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=lambda wildcards: nodes.pretrain[
            f"{PRETRAIN}/metrics.json".format(**wildcards)
        ].canonical(),
        data=training_data_options,
        validation=lambda wildcards, input: str(Path(input.validation).parent),
    message:
        "Pretraining {wildcards.architecture}-{wildcards.size} on {wildcards.corpus}, seed {wildcards.seed}"
    shell:
        command(
            "pretrain --spec {params.spec} {params.data} --validation {params.validation} "
            "--stats {input.stats} --threads {threads} {TRAINING_OPTIONS} "
            '--out "$(dirname {output.metrics})"',
            launcher="{LAUNCH}",
        )
