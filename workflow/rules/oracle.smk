# The ceiling of transfer: what a model learns from the labels of the pretraining tiles, which only the synthetic Earth
# knows. Its cells are trained as any other, and fine-tuned as those of a corpus called `oracle`.
rule labels:
    input:
        f"data/{WORLD_CORPUS}/chips/manifest.parquet",
    output:
        f"data/{WORLD_CORPUS}/labels/labels.json",
    log:
        "logs/labels.log",
    benchmark:
        "logs/benchmarks/labels.tsv"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=lambda wildcards: LabelsSpec.of(study).canonical(),
    message:
        "Writing the labels of the chips of {WORLD_CORPUS}"
    shell:
        command(
            'make-labels --spec {params.spec} --chips "$(dirname {input})" --threads {threads} '
            '--out "$(dirname {output})"'
        )


use rule pretrain as oracle with:
    input:
        data=f"data/{WORLD_CORPUS}/labels/labels.json",
        validation=f"data/{WORLD_CORPUS}/chips/manifest.parquet",
        stats="data/stats.json",
    output:
        weights=f"{ORACLE}/model.safetensors",
        card=f"{ORACLE}/model.json",
        log=f"{ORACLE}/log.csv",
        metrics=f"{ORACLE}/metrics.json",
    log:
        "<logs>/oracle/{architecture}-{size}/seed{seed}.log",
    benchmark:
        "<logs>/benchmarks/oracle/{architecture}-{size}/seed{seed}.tsv"
    params:
        spec=lambda wildcards: nodes.oracle[
            f"{ORACLE}/metrics.json".format(**wildcards)
        ].canonical(),
        data=[
            f"--chips=data/{WORLD_CORPUS}/chips",
            f"--labels=data/{WORLD_CORPUS}/labels",
        ],
        validation=lambda wildcards, input: str(Path(input.validation).parent),
    message:
        "Pretraining {wildcards.architecture}-{wildcards.size} on labels, seed {wildcards.seed}"
