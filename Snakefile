from snakemake.utils import min_version

min_version("9.19")


# A study is one file: `--configfile studies/ci.yaml` replaces config.yaml, it is not merged over it.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/oracle.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/external.smk"
include: "workflow/rules/finetune.smk"


if study.linear:

    include: "workflow/rules/linear.smk"


include: "workflow/rules/analysis.smk"
include: "workflow/rules/pictures.smk"
include: "workflow/rules/published.smk"


localrules:
    all,
    pretrain_all,
    finetune_all,
    figures,
    tables_all,


rule all:
    default_target: True
    input:
        "results/figures/scaling.pdf",
        FIGURES,
        TABLES,


rule pretrain_all:
    input:
        PRETRAIN_RESULTS,
        ORACLE_RESULTS,


rule finetune_all:
    input:
        FINETUNE_RESULTS,
        LINEAR_RESULTS,
        TRIVIAL_RESULTS,


rule figures:
    input:
        FIGURES,


rule tables_all:
    input:
        TABLES,
