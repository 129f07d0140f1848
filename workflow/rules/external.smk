localrules:
    released,


# Also fetches the weights where the study names an address on the hub; the file itself is no output, as the hub's
# client keeps it for all studies of a user.
rule released:
    input:
        released_file,
    output:
        weights="<results>/released/{architecture}-{size}/model.safetensors",
        card="<results>/released/{architecture}-{size}/model.json",
    log:
        "<logs>/released/{architecture}-{size}.log",
    benchmark:
        "<logs>/benchmarks/released/{architecture}-{size}.tsv"
    resources:
        mem_mb=8000,
    params:
        spec=lambda wildcards: nodes.released[
            RELEASED_CARD.format(**wildcards)
        ].canonical(),
    message:
        "Taking the released weights of {wildcards.architecture}-{wildcards.size}"
    shell:
        command('import-released --spec {params.spec} --out "$(dirname {output.card})"')
