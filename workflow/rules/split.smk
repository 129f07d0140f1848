rule split:
    input:
        bench="data/bench/index.parquet",
        indices=index_files_of,
    output:
        SPLIT,
    log:
        "<logs>/split/{task}/{draw}.log",
    benchmark:
        "<logs>/benchmarks/split/{task}/{draw}.tsv"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=lambda wildcards: nodes.split[SPLIT.format(**wildcards)].canonical(),
        folder=bench_folder,
        indices=index_file_options,
    message:
        "Drawing few-shot subsets of {wildcards.task}, {wildcards.draw}"
    shell:
        command(
            "split --spec {params.spec} --bench {params.folder} --bench-index {input.bench} "
            "{params.indices} --out {output}"
        )
