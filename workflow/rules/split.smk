rule split:
    input:
        bench="data/bench/index.parquet",
        indices=index_files_of,
    output:
        SPLIT,
    log:
        "logs/split/{task}/{draw}.log",
    benchmark:
        "logs/benchmarks/split/{task}/{draw}.tsv"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=lambda wildcards: nodes.split[SPLIT.format(**wildcards)].canonical(),
        folder=bench_folder(),
        indices=index_file_options,
    message:
        "Drawing few-shot subsets of {wildcards.task}, {wildcards.draw}"
    shell:
        "geoladder --log {log:q} split --spec {params.spec:q} --bench {params.folder:q}"
        " --bench-index {input.bench:q} {params.indices:q} --out {output:q}"
