"""The verbs that train models and pass them on. Heavy imports wait until one runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from geoladder.options import (
    BandNames,
    Bench,
    BenchIndex,
    OffsetDn,
    Out,
    Progress,
    Spec,
    Split,
    Stats,
    Study,
    Threads,
)
from geoladder.scans import ScanName
from geoladder.training.job import Hardware, Inputs

STUDY, ALONE, FLAT = Path("config.yaml"), Hardware(), Parameter(name="*")
Checkpoint = Annotated[
    Path | None, Parameter(help="folder of a pretrained model; omit to start from scratch")
]


def pretrain(
    *,
    spec: Spec,
    inputs: Annotated[Inputs, FLAT],
    out: Out,
    hardware: Annotated[Hardware, FLAT] = ALONE,
    progress: Progress = True,
) -> None:
    """Pretrain one cell into a folder; a run that stopped goes on from what is in it."""
    from geoladder.study.specs import PretrainSpec
    from geoladder.training.pretrain import pretrain

    pretrain(PretrainSpec.from_json(spec), inputs, hardware, out, progress=progress)


def finetune(
    *,
    spec: Spec,
    bench: Bench,
    bench_index: BenchIndex,
    stats: Stats,
    split: Split,
    out: Out,
    checkpoint: Checkpoint = None,
    rate: Annotated[
        Path | None, Parameter(help="JSON written by `choose-rate`; omit for the given rate")
    ] = None,
    hardware: Annotated[Hardware, FLAT] = ALONE,
) -> None:
    """Fine-tune at one n of one curve; a run that stopped goes on. Write JSON."""
    from geoladder.study.downstream_specs import FinetuneSpec
    from geoladder.training.finetune import BenchFiles, finetune

    files = BenchFiles(bench, bench_index, stats, split)
    finetune(FinetuneSpec.from_json(spec), files, checkpoint, out, hardware, choice=rate)


def choose_rate(
    *,
    spec: Spec,
    bench: Bench,
    bench_index: BenchIndex,
    stats: Stats,
    split: Split,
    out: Out,
    checkpoint: Checkpoint = None,
    hardware: Annotated[Hardware, FLAT] = ALONE,
) -> None:
    """Choose the learning rate of one arm, task and n on validation patches; write JSON."""
    from geoladder.study.downstream_specs import RateSpec
    from geoladder.training.choose_rate import choose_rate
    from geoladder.training.finetune import BenchFiles

    files = BenchFiles(bench, bench_index, stats, split)
    choose_rate(RateSpec.from_json(spec), files, checkpoint, out, hardware)


def linear(
    *,
    spec: Spec,
    bench: Bench,
    bench_index: BenchIndex,
    stats: Stats,
    split: Annotated[
        list[Path], Parameter(help="of each task one for each draw, in order, written by `split`")
    ],
    out: Out,
    checkpoint: Annotated[
        Path | None, Parameter(help="folder of a pretrained model; omit for a random encoder")
    ] = None,
    threads: Threads = 1,
    scan: Annotated[
        ScanName, Parameter(help="backend of Mamba's scans; auto: the first that works")
    ] = "auto",
) -> None:
    """Fit and judge the linear heads of one cell; write JSON by task into a folder."""
    from geoladder.study.downstream_specs import LinearCell
    from geoladder.training.linear import fit_linear

    cell = LinearCell.from_json(spec)
    fit_linear(cell, bench, bench_index, stats, split, checkpoint, out, threads=threads, scan=scan)


def trivial(*, spec: Spec, bench: Bench, bench_index: BenchIndex, split: Split, out: Out) -> None:
    """Score predictors that need no network: zero, the mean, two per-pixel models; write JSON."""
    from geoladder.study.downstream_specs import BaselineSpec
    from geoladder.training.baselines import trivial

    trivial(BaselineSpec.from_json(spec), bench, bench_index, split, out)


def import_released(*, spec: Spec, out: Out) -> None:
    """Take the released weights of an external model into a folder."""
    from geoladder.study.downstream_specs import ReleasedSpec
    from geoladder.training.released import import_released

    import_released(ReleasedSpec.from_json(spec), out)


def export(
    folder: Annotated[Path, Parameter(help="a finished run, such as results/pretrain/majortom/unet-s/seed0")],
    out: Annotated[Path, Parameter(help="folder for model.safetensors, model.json and README.md")],
    /,
    *,
    study: Study = STUDY,
    licence: Annotated[
        str | None, Parameter(help="of the weights, as the hub spells it (default: by the data)")
    ] = None,
) -> None:
    """Write a trained model as others can use it, with a model card."""
    from geoladder.study.load import load_study
    from geoladder.training.export import export_model

    export_model(folder, out, load_study(study), licence)
    print(f"{out} is ready: model.safetensors, model.json, README.md")  # noqa: T201


def load(source: Annotated[str, Parameter(help="folder, or hf://owner/name@revision")], /) -> None:
    """Check that a model's weights fit, and print its card."""
    from geoladder.training.export import describe
    from geoladder.training.hub import load_model

    backbone, card = load_model(source)
    print(describe(card, sum(p.numel() for p in backbone.parameters())))  # noqa: T201


def import_weights(
    state: Annotated[Path, Parameter(help=".safetensors, or .pt, .pth or .ckpt of tensors and plain values")],
    out: Annotated[Path, Parameter(help="folder for the model")],
    /,
    *,
    names: Annotated[
        Path, Parameter(name="--map", help="YAML, or the name of a shipped map; see docs/checkpoints.md")
    ],
    architecture: Annotated[str, Parameter(help="of the ladder, such as vit_upernet")],
    size: Annotated[str, Parameter(help="of the ladder, such as P16-100M")],
) -> None:
    """Take weights from elsewhere, by an explicit map of names."""
    from geoladder.training.import_weights import import_weights

    taken, ignored = import_weights(state, names, architecture, size, out)
    print(f"{out}: {taken} weights taken, {ignored} ignored by the map")  # noqa: T201


def predict_map(
    checkpoint: Annotated[Path, Parameter(help="folder of a fine-tuned or linear model")],
    image: Annotated[
        Path, Parameter(help="Sentinel-2 image with the ten bands on 10 m pixels, such as a GeoTIFF")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="GeoTIFF to write")],
    bands: BandNames = None,
    offset_dn: OffsetDn = None,
    tile_px: Annotated[int, Parameter(help="side of what is computed at once; changes no number")] = 256,
    window_px: Annotated[
        int | None,
        Parameter(help="side of what the model sees (default: that of the patches it was tuned on)"),
    ] = None,
    threads: Threads = 1,
    progress: Progress = True,
) -> None:
    """Predict a task on an image of any size; write a cloud-optimised GeoTIFF."""
    from geoladder.training.predict_map import predict_map

    names = bands.split(",") if bands else None
    predict_map(
        checkpoint, image, out, names, offset_dn, tile_px, window_px, threads=threads, progress=progress
    )


def embed(
    checkpoint: Annotated[
        str, Parameter(help="folder of a pretrained or tuned model, or hf://owner/name@revision")
    ],
    source: Annotated[
        Path, Parameter(help="Sentinel-2 image, folder of chips, or an archive with its --index")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="GeoParquet to write")],
    index: Annotated[Path | None, Parameter(help="parquet of an archive's tiles, written by `index`")] = None,
    bands: BandNames = None,
    offset_dn: OffsetDn = None,
    chip_px: Annotated[int, Parameter(help="side of the chips that are cut")] = 128,
    threads: Threads = 1,
    progress: Progress = True,
) -> None:
    """Write the encoder's features of every chip, with footprints, as GeoParquet."""
    from geoladder.training.embed import embed

    names = bands.split(",") if bands else None
    embed(checkpoint, source, out, index, names, offset_dn, chip_px, threads=threads, progress=progress)
