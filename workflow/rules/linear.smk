LINEAR = f"{RESULTS}/linear/{{corpus}}/{{architecture}}-{{size}}/seed{{seed}}"


def linear_splits(wildcards):
    """Files of the subsets that heads are fitted to, of each task one for each draw."""
    tasks, draws, _ = study.linear_subsets()
    return [nodes.split_of(task, draw) for task in tasks for draw in draws]


def linear_checkpoint(wildcards):
    """The checkpoint behind linear heads; nothing for random encoders."""
    cell = nodes.cell_behind[LINEAR.format(**wildcards)]
    return f"{cell}/model.safetensors" if cell else []


def linear_checkpoint_option(wildcards):
    """The checkpoint as an option of the command line; nothing for random encoders."""
    cell = nodes.cell_behind[LINEAR.format(**wildcards)]
    return ["--checkpoint", cell] if cell else []


# One job encodes each patch once for all tasks, draws and n of a cell.
rule linear:
    input:
        bench="data/bench/index.parquet",
        stats="data/stats.json",
        splits=linear_splits,
        checkpoint=linear_checkpoint,
    output:
        [f"{LINEAR}/{task}.json" for task in study.linear_subsets().tasks],
    log:
        "<logs>/linear/{corpus}/{architecture}-{size}/seed{seed}.log",
    benchmark:
        "<logs>/benchmarks/linear/{corpus}/{architecture}-{size}/seed{seed}.tsv"
    threads: study.compute.threads
    resources:
        mem_mb=4000,
        gres="gpu:1",
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=lambda wildcards: nodes.linear_cells[
            LINEAR.format(**wildcards)
        ].canonical(),
        folder=bench_folder,
        checkpoint=linear_checkpoint_option,
        splits=lambda wildcards, input: [
            word for file in input.splits for word in ("--split", file)
        ],
    message:
        "Linear heads on {wildcards.architecture}-{wildcards.size} from {wildcards.corpus}, seed {wildcards.seed}"
    shell:
        command(
            "linear --spec {params.spec} --bench {params.folder} --bench-index {input.bench} "
            "--stats {input.stats} {params.splits} {params.checkpoint} --threads {threads} "
            '--scan {study.compute.scan} --out "$(dirname {output[0]})"'
        )
