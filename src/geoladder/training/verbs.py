"""The verbs that train models and pass them on. Heavy imports wait until one runs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def pretrain(
    *,
    spec: str,
    validation: Path,
    stats: Path,
    out: Path,
    chips: Path | None = None,
    archive: Path | None = None,
    index: Path | None = None,
    threads: int = 1,
    devices: int = 1,
    strategy: Literal["auto", "ddp", "fsdp"] = "auto",
    micro_batch: int | None = None,
    activation_checkpointing: bool = False,
    compile_model: Annotated[bool, Parameter(name="--compile")] = False,
    workers: int = 0,
    progress: Annotated[bool, Parameter(parse=False)] = True,
) -> None:
    """Pretrain one cell.

    Args:
        spec: canonical JSON of a pretraining node.
        validation: chip folder of the common validation set.
        stats: JSON written by `stats`.
        out: folder of the result; a run that stopped goes on from what is in it.
        chips: chip folder, for runs that read chips.
        archive: its folder, for runs that read tiles.
        index: parquet of its tiles, for runs that read tiles.
        threads: of the CPU, for each device.
        devices: GPUs, or CPU processes.
        strategy: how devices share the model.
        micro_batch: samples in one pass of one device (default: its whole share of a batch).
        activation_checkpointing: save memory, compute the inside of blocks twice.
        compile_model: compile the blocks.
        workers: processes of each device that read tiles.
        progress: draw a progress bar.
    """
    from geoladder.study.accumulation import accumulation
    from geoladder.study.specs import PretrainSpec
    from geoladder.training.pretrain import Hardware, Inputs, pretrain

    node = PretrainSpec.from_json(spec)
    hardware = Hardware(
        threads=threads,
        devices=devices,
        strategy=strategy,
        passes=accumulation(node.batch, devices, micro_batch),
        activation_checkpointing=activation_checkpointing,
        compile_model=compile_model,
        workers=workers,
    )
    pretrain(node, Inputs(validation, stats, chips, archive, index), hardware, out, progress=progress)


def finetune(
    *,
    spec: str,
    bench: Path,
    bench_index: Path,
    stats: Path,
    out: Path,
    checkpoint: Path | None = None,
    indices: Path | None = None,
    threads: int = 1,
) -> None:
    """Fine-tune at one n of one curve.

    Args:
        spec: canonical JSON of a fine-tuning node.
        bench: folder of PhilEO Bench.
        bench_index: parquet written by `bench-index`.
        stats: JSON written by `stats`.
        out: JSON to write.
        checkpoint: folder of a pretrained model; omit to start from scratch.
        indices: official index file; omit to draw patches by seed.
        threads: of the CPU.
    """
    from geoladder.study.specs import FinetuneSpec
    from geoladder.training.finetune import finetune

    node = FinetuneSpec.from_json(spec)
    finetune(node, bench, bench_index, stats, checkpoint, out, threads=threads, indices=indices)


def trivial(*, spec: str, bench: Path, bench_index: Path, out: Path, indices: Path | None = None) -> None:
    """Score predictions of zero and of the mean.

    Args:
        spec: canonical JSON of a baseline node.
        bench: folder of PhilEO Bench.
        bench_index: parquet written by `bench-index`.
        out: JSON to write.
        indices: official index file; omit to draw patches by seed.
    """
    from geoladder.study.specs import TrivialSpec
    from geoladder.training.trivial import trivial

    trivial(TrivialSpec.from_json(spec), bench, bench_index, out, indices=indices)


def export(
    folder: Path, out: Path, /, *, study: Path = Path("config.yaml"), licence: str | None = None
) -> None:
    """Write a trained model as others can use it, with a model card.

    Args:
        folder: a finished run, such as results/pretrain/majortom/unet-s/seed0.
        out: folder for model.safetensors, model.json and README.md.
        study: the study it was trained in.
        licence: of the weights, as the hub spells it (default: by the data).
    """
    from geoladder.study.load import load_study
    from geoladder.training.export import export_model

    export_model(folder, out, load_study(study), licence)
    print(f"{out} is ready: model.safetensors, model.json, README.md")  # noqa: T201


def load(source: str, /) -> None:
    """Check that a model's weights fit, and print its card.

    Args:
        source: folder, or hf://owner/name@revision.
    """
    from geoladder.training.hub import load_model
    from geoladder.training.model_card import describe

    backbone, card = load_model(source)
    print(describe(card, sum(p.numel() for p in backbone.parameters())))  # noqa: T201


def import_weights(
    state: Path,
    out: Path,
    /,
    *,
    names: Annotated[Path, Parameter(name="--map")],
    architecture: str,
    size: str,
) -> None:
    """Take weights from elsewhere, by an explicit map of names.

    Args:
        state: state dict: .safetensors, or .pt/.pth of tensors alone.
        out: folder for the model.
        names: YAML; see docs/checkpoints.md.
        architecture: of the ladder, such as vit_upernet.
        size: of the ladder, such as P16-100M.
    """
    from geoladder.training.import_weights import import_weights

    taken, ignored = import_weights(state, names, architecture, size, out)
    print(f"{out}: {taken} weights taken, {ignored} ignored by the map")  # noqa: T201
