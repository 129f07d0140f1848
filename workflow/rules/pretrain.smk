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
        "logs/pretrain/{corpus}/{architecture}-{size}/seed{seed}.log",
    threads: study.compute.threads
    resources:
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 240 * attempt,
        devices=study.compute.devices,
        strategy=study.compute.strategy,
        micro_batch=study.compute.micro_batch or 0,
        activation_checkpointing=int(study.compute.activation_checkpointing),
        compile=int(study.compute.compile),
        workers=study.compute.workers,
    params:
        spec=lambda wildcards: nodes.pretrain[
            f"{PRETRAIN}/metrics.json".format(**wildcards)
        ].canonical(),
        data=training_data_options,
        validation=lambda wildcards, input: str(Path(input.validation).parent),
    message:
        "Pretraining {wildcards.architecture}-{wildcards.size} on {wildcards.corpus}, seed {wildcards.seed}"
    shell:
        "geoladder --log {log} pretrain --spec {params.spec:q} {params.data}"
        " --validation {params.validation} --stats {input.stats} --threads {threads}"
        " --devices {resources.devices} --strategy {resources.strategy} --micro-batch {resources.micro_batch}"
        " --activation-checkpointing {resources.activation_checkpointing} --compile {resources.compile}"
        " --workers {resources.workers}"
        " --out $(dirname {output.metrics})"
