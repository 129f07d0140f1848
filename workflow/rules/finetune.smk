rule finetune:
    input:
        bench="data/bench/index.parquet",
        stats="data/stats.json",
        split=split_of,
        checkpoint=checkpoint_of,
    output:
        FINETUNE,
    log:
        "logs/finetune/{corpus}/{architecture}-{size}/{task}/seed{seed}/n{n}.log",
    benchmark:
        "logs/benchmarks/finetune/{corpus}/{architecture}-{size}/{task}/seed{seed}/n{n}.tsv"
    threads: study.compute.threads
    resources:
        mem_mb=4000,
        gres="gpu:1",
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=lambda wildcards: nodes.finetune[FINETUNE.format(**wildcards)].canonical(),
        folder=bench_folder(),
        checkpoint=checkpoint_option,
    message:
        "Fine-tuning {wildcards.architecture}-{wildcards.size} from {wildcards.corpus} on {wildcards.task}, n={wildcards.n}"
    shell:
        "geoladder --log {log:q} finetune --spec {params.spec:q} --bench {params.folder:q}"
        " --bench-index {input.bench:q} --stats {input.stats:q} --split {input.split:q} {params.checkpoint:q}"
        " --threads {threads:q} --out {output:q}"


rule trivial:
    input:
        bench="data/bench/index.parquet",
        split=split_of,
    output:
        TRIVIAL,
    log:
        "logs/trivial/{task}/seed{seed}/n{n}.log",
    benchmark:
        "logs/benchmarks/trivial/{task}/seed{seed}/n{n}.tsv"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=lambda wildcards: nodes.trivial[TRIVIAL.format(**wildcards)].canonical(),
        folder=bench_folder(),
    message:
        "Judging baselines on {wildcards.task}, seed {wildcards.seed}, n={wildcards.n}"
    shell:
        "geoladder --log {log:q} trivial --spec {params.spec:q} --bench {params.folder:q}"
        " --bench-index {input.bench:q} --split {input.split:q} --out {output:q}"
