rule archive:
    output:
        "data/{name}/archive/metadata.parquet",
    log:
        "logs/archive/{name}.log",
    benchmark:
        "logs/benchmarks/archive/{name}.tsv"
    wildcard_constraints:
        name="|".join(SYNTHETIC) or NONE,
    threads: 8
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=lambda wildcards: ArchiveSpec.of(study, wildcards.name).canonical(),
    message:
        "Writing the synthetic archive {wildcards.name}"
    shell:
        command(
            'make-archive --spec {params.spec} --threads {threads} --out "$(dirname {output})"'
        )


rule fetch_plan:
    output:
        "data/{name}/archive/source/plan.json",
    log:
        "logs/fetch/{name}/plan.log",
    benchmark:
        "logs/benchmarks/fetch/{name}/plan.tsv"
    wildcard_constraints:
        name="|".join(REMOTE) or NONE,
    resources:
        mem_mb=4000,
        connections=study.compute.connections,
        runtime=120,
    params:
        spec=lambda wildcards: FetchSpec.of(study, wildcards.name).canonical(),
    message:
        "Planning what to fetch for {wildcards.name}"
    shell:
        command(
            "fetch --spec {params.spec} --plan --connections {resources.connections} "
            "--out data/{wildcards.name}/archive"
        )


# What came stays when a job fails or is killed; the next try asks for the rest.
rule fetch_group:
    input:
        "data/{name}/archive/source/plan.json",
    output:
        touch("data/{name}/fetched/{group}.done"),
    log:
        "logs/fetch/{name}/{group}.log",
    benchmark:
        "logs/benchmarks/fetch/{name}/{group}.tsv"
    wildcard_constraints:
        name="|".join(REMOTE) or NONE,
    resources:
        mem_mb=4000,
        connections=study.compute.connections,
        runtime=1440,
    params:
        spec=lambda wildcards: FetchSpec.of(study, wildcards.name).canonical(),
        group=lambda wildcards: wildcards.group.replace("-of-", "/"),
    message:
        "Fetching group {wildcards.group} of {wildcards.name}"
    shell:
        command(
            "fetch --spec {params.spec} --group {params.group} --connections {resources.connections} "
            "--out data/{wildcards.name}/archive"
        )


rule fetch:
    input:
        fetch_groups,
    output:
        "data/{name}/archive/metadata.parquet",
    log:
        "logs/fetch/{name}.log",
    benchmark:
        "logs/benchmarks/fetch/{name}.tsv"
    wildcard_constraints:
        name="|".join(REMOTE) or NONE,
    resources:
        mem_mb=4000,
        connections=study.compute.connections,
        runtime=120,
    params:
        spec=lambda wildcards: FetchSpec.of(study, wildcards.name).canonical(),
    message:
        "Completing the archive {wildcards.name}"
    shell:
        command(
            "fetch --spec {params.spec} --connections {resources.connections} "
            "--out data/{wildcards.name}/archive"
        )


rule bench_archive:
    output:
        "data/bench/archive/metadata/tiles_metadata.json",
    log:
        "logs/bench_archive.log",
    benchmark:
        "logs/benchmarks/bench_archive.tsv"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=lambda wildcards: BenchArchiveSpec.of(study).canonical(),
    message:
        "Writing the synthetic PhilEO Bench"
    shell:
        command(
            'make-bench --spec {params.spec} --threads {threads} --out "$(dirname "$(dirname {output})")"'
        )


rule bench_index:
    input:
        bench_ready,
    output:
        index="data/bench/index.parquet",
        evidence="data/bench/evidence.json",
    log:
        "logs/bench_index.log",
    benchmark:
        "logs/benchmarks/bench_index.tsv"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=lambda wildcards: BenchArchiveSpec.of(study).canonical(),
        folder=bench_folder,
        harmonise=lambda wildcards: (
            ["--harmonise", study.bench.harmonise] if study.bench.harmonise else []
        ),
    message:
        "Indexing PhilEO Bench"
    shell:
        command(
            "bench-index --bench {params.folder} {params.harmonise} --out {output.index}"
        )


rule index:
    input:
        archive=archive_ready,
        bench="data/bench/index.parquet",
    output:
        index="data/{name}/index.parquet",
        ledger="data/{name}/ledger.csv",
        evidence="data/{name}/evidence.json",
    log:
        "logs/index/{name}.log",
    benchmark:
        "logs/benchmarks/index/{name}.tsv"
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        spec=lambda wildcards: IndexSpec.of(study, wildcards.name).canonical(),
        folder=archive_folder,
    message:
        "Indexing the usable tiles of {wildcards.name}"
    shell:
        command(
            "index --spec {params.spec} --archive {params.folder} --bench-index {input.bench} "
            "--out {output.index} --ledger {output.ledger}"
        )


# One job for each group of parts; the manifest is made when all are done.
rule chips_group:
    input:
        index="data/{name}/index.parquet",
    output:
        touch("data/{name}/chips-groups/{group}.done"),
    log:
        "logs/chips/{name}/{group}.log",
    benchmark:
        "logs/benchmarks/chips/{name}/{group}.tsv"
    resources:
        mem_mb=4000,
        runtime=600,
    params:
        spec=lambda wildcards: ChipsSpec.of(study, wildcards.name).canonical(),
        archive=archive_folder,
    message:
        "Cutting group {wildcards.group} of {wildcards.name} into chips"
    shell:
        command(
            "chips --spec {params.spec} --archive {params.archive} --index {input.index} "
            "--parts {wildcards.group} --out data/{wildcards.name}/chips"
        )


rule chips:
    input:
        index="data/{name}/index.parquet",
        groups=chips_groups,
    output:
        "data/{name}/chips/manifest.parquet",
    log:
        "logs/chips/{name}.log",
    benchmark:
        "logs/benchmarks/chips/{name}.tsv"
    resources:
        mem_mb=4000,
        runtime=600,
    params:
        spec=lambda wildcards: ChipsSpec.of(study, wildcards.name).canonical(),
        archive=archive_folder,
        merge=study.compute.chip_jobs if study.compute.chip_jobs > 1 else 0,
    message:
        "Cutting {wildcards.name} into chips"
    shell:
        command(
            "chips --spec {params.spec} --archive {params.archive} --index {input.index} --merge "
            '{params.merge} --out "$(dirname {output})"'
        )


rule stats:
    input:
        f"data/{WORLD_CORPUS}/chips/manifest.parquet",
    output:
        "data/stats.json",
    log:
        "logs/stats.log",
    benchmark:
        "logs/benchmarks/stats.tsv"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=lambda wildcards: StatsSpec.of(study).canonical(),
    message:
        "Measuring band statistics"
    shell:
        command(
            'stats --spec {params.spec} --chips "$(dirname {input})" --out {output}'
        )
