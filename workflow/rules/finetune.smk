rule finetune:
    input:
        bench="data/bench/index.parquet",
        stats="data/stats.json",
        split=split_of,
        checkpoint=lambda wildcards: checkpoint_of(wildcards, FINETUNE),
        rate=rate_of,
    output:
        FINETUNE,
    log:
        FINETUNE.replace(f"{RESULTS}/", f"{LOGS}/").replace(".json", ".log"),
    benchmark:
        FINETUNE.replace(f"{RESULTS}/", f"{LOGS}/benchmarks/").replace(".json", ".tsv")
    threads: study.compute.threads
    resources:
        **TRAINING_RESOURCES,
        mem_mb=tuning_memory_mb,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=lambda wildcards: nodes.finetune[FINETUNE.format(**wildcards)].canonical(),
        folder=bench_folder,
        checkpoint=lambda wildcards: checkpoint_option(wildcards, FINETUNE),
        rate=lambda wildcards, input: ["--rate", input.rate] if input.rate else [],
    message:
        "Fine-tuning {wildcards.architecture}-{wildcards.size}{wildcards.variant} from {wildcards.corpus} on {wildcards.task}, n={wildcards.n}"
    shell:
        command(
            "finetune --spec {params.spec} --bench {params.folder} --bench-index {input.bench} "
            "--stats {input.stats} --split {input.split} {params.checkpoint} {params.rate} --threads "
            "{threads} {TUNING_OPTIONS} --out {output}",
            launcher="{LAUNCH}",
        )


# The rate of a curve at one n, for all its seeds, where the study has `finetune: {lr: {choose: [...]}}`.
rule choose_rate:
    input:
        bench="data/bench/index.parquet",
        stats="data/stats.json",
        split=split_of_rate,
        checkpoint=lambda wildcards: checkpoint_of(wildcards, RATE),
    output:
        RATE,
    log:
        RATE.replace(f"{RESULTS}/", f"{LOGS}/").replace(".json", ".log"),
    benchmark:
        RATE.replace(f"{RESULTS}/", f"{LOGS}/benchmarks/").replace(".json", ".tsv")
    threads: study.compute.threads
    resources:
        **TRAINING_RESOURCES,
        mem_mb=tuning_memory_mb,
        runtime=lambda wildcards, attempt: 600 * attempt,
    params:
        spec=lambda wildcards: nodes.rates[RATE.format(**wildcards)].canonical(),
        folder=bench_folder,
        checkpoint=lambda wildcards: checkpoint_option(wildcards, RATE),
    message:
        "Choosing the rate of {wildcards.architecture}-{wildcards.size}{wildcards.variant} from {wildcards.corpus} on {wildcards.task}, n={wildcards.n}"
    shell:
        command(
            "choose-rate --spec {params.spec} --bench {params.folder} --bench-index {input.bench} "
            "--stats {input.stats} --split {input.split} {params.checkpoint} --threads {threads} "
            "{TUNING_OPTIONS} --out {output}",
            launcher="{LAUNCH}",
        )


# One job reads each test patch once for every n of a task and seed.
rule trivial:
    input:
        bench="data/bench/index.parquet",
        split=split_of,
    output:
        TRIVIAL,
    log:
        "<logs>/trivial/{task}/seed{seed}.log",
    benchmark:
        "<logs>/benchmarks/trivial/{task}/seed{seed}.tsv"
    resources:
        mem_mb=2000,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=lambda wildcards: nodes.trivial[TRIVIAL.format(**wildcards)].canonical(),
        folder=bench_folder,
    message:
        "Judging baselines on {wildcards.task}, seed {wildcards.seed}"
    shell:
        command(
            "trivial --spec {params.spec} --bench {params.folder} --bench-index {input.bench} "
            "--split {input.split} --out {output}"
        )
