from snakemake.exceptions import WorkflowError
from snakemake.settings.enums import Quietness
from snakemake.utils import min_version

from geoladder.errors import GeoladderError
from geoladder.study.load import read_study

min_version("9.19")

# Snakemake reads studies with more patience than is good for them: of a key that is given twice it takes the last.
if workflow.is_main_process:
    try:
        for file in workflow.overwrite_configfiles or ["config.yaml"]:
            read_study(file)
    except GeoladderError as problem:
        raise WorkflowError(str(problem)) from None


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
        "<results>/figures/scaling.pdf",
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


# What the study says, in a few lines, where this run was to get so far.
onsuccess:
    fitted = any(job.rule.name == "fit" for job in workflow.dag.jobs)
    quiet = Quietness.ALL in (workflow.output_settings.quiet or ())
    if fitted and Path(RESULTS, "fits/laws.json").is_file() and not quiet:
        shell("geoladder summary {RESULTS:q} || true")
