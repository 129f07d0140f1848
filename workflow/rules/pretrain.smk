rule pretrain:
    input:
        chips=chips_of,
        validation=f"data/{WORLD_CORPUS}/chips/manifest.parquet",
        stats="data/stats.json",
    output:
        weights=f"{PRETRAIN}/model.safetensors",
        card=f"{PRETRAIN}/model.json",
        log=f"{PRETRAIN}/log.csv",
        metrics=f"{PRETRAIN}/metrics.json",
    log:
        "logs/pretrain/{corpus}/{architecture}-{size}/seed{seed}.log",
    threads: study.compute.threads
    resources:
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 240 * attempt,
        devices=study.compute.devices,
        strategy=study.compute.strategy,
    params:
        spec=lambda wildcards: nodes.pretrain[
            f"{PRETRAIN}/metrics.json".format(**wildcards)
        ].canonical(),
        chips=lambda wildcards, input: str(Path(input.chips).parent),
        validation=lambda wildcards, input: str(Path(input.validation).parent),
    message:
        "Pretraining {wildcards.architecture}-{wildcards.size} on {wildcards.corpus}, seed {wildcards.seed}"
    shell:
        "geoladder --log {log} pretrain --spec {params.spec:q} --chips {params.chips}"
        " --validation {params.validation} --stats {input.stats} --threads {threads}"
        " --devices {resources.devices} --strategy {resources.strategy} --out $(dirname {output.metrics})"
