"""The verbs that prepare data, from `bench-index` to `stats`. Heavy imports wait until one runs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from geoladder.options import Archive, BandNames, Bench, BenchIndex, Chips, Index, OffsetDn, Out, Spec


def bench_index(
    *,
    bench: Bench,
    out: Out,
    harmonise: Annotated[
        Literal["baseline", "pixels"] | None,
        Parameter(help="who tells DN offsets: `baseline`: the metadata, though pixels contradict; `pixels`"),
    ] = None,
) -> None:
    """Index the bench's files in a parquet; evidence.json beside it says what their numbers are taken for."""
    from geoladder.data.bench.reader import index_bench

    index_bench(bench, out, harmonise)


def split(
    *,
    spec: Spec,
    bench: Bench,
    bench_index: BenchIndex,
    out: Out,
    indices: Annotated[
        list[Path] | None, Parameter(help="official index files, one for each n; omit to draw patches")
    ] = None,
) -> None:
    """Draw a task's few-shot subsets, which all arms share; write a parquet."""
    from geoladder.data.bench.reader import Bench
    from geoladder.data.bench.split import write_split
    from geoladder.study.downstream_specs import SplitSpec

    write_split(SplitSpec.from_json(spec), Bench(bench, bench_index), out, indices or [])


def index(
    *,
    spec: Spec,
    archive: Archive,
    bench_index: BenchIndex,
    out: Out,
    ledger: Annotated[Path, Parameter(help="CSV of every tile, and why it was dropped")],
) -> None:
    """Index an archive's usable tiles in a parquet, and keep the evidence of their units beside it."""
    from geoladder.data.index.build import build_index
    from geoladder.study.specs import IndexSpec

    build_index(IndexSpec.from_json(spec), archive, bench_index, out, ledger)


def chips(
    *,
    spec: Spec,
    archive: Archive,
    index: Index,
    out: Out,
    parts: Annotated[str | None, Parameter(help="cut only this group of parts, such as 3/16")] = None,
    merge: Annotated[int, Parameter(help="join the chips of so many groups, all cut before")] = 0,
) -> None:
    """Cut an archive's tiles into a folder of training chips."""
    from geoladder.data.batches.chips import merge_chips, write_chips, write_group
    from geoladder.data.batches.shards import Group
    from geoladder.study.specs import ChipsSpec

    node = ChipsSpec.from_json(spec)
    if parts:
        write_group(node, archive, index, out, Group.parse(parts))
    elif merge:
        merge_chips(node, archive, index, out, merge)
    else:
        write_chips(node, archive, index, out)


def stats(*, spec: Spec, chips: Chips, out: Out) -> None:
    """Measure band statistics in reflectance; write JSON."""
    from geoladder.data.batches.stats import write_stats
    from geoladder.study.specs import StatsSpec

    write_stats(StatsSpec.from_json(spec), chips, out)


def bench_from_image(
    *images: Annotated[
        Path, Parameter(help="one Sentinel-2 scene: a file with all bands, or files with some each")
    ],
    polygons: Annotated[Path, Parameter(help="GeoPackage, GeoJSON, ... of polygons with classes")],
    out: Out,
    task: Annotated[str, Parameter(help="whose classes the polygons have")] = "landuse",
    attribute: Annotated[str, Parameter(help="of the polygons, which names the class")] = "fclass",
    rename: Annotated[
        str, Parameter(help="classes of the polygons as the task has them, `theirs=ours,...`")
    ] = "",
    region: Annotated[str, Parameter(help="of the bench, which the scene is in")] = "europe",
    patch_px: Annotated[int, Parameter(help="side of a patch, 10 m pixels")] = 32,
    block_px: Annotated[
        int, Parameter(help="side of the blocks that are for training or testing as a whole")
    ] = 256,
    bands: BandNames = None,
    offset_dn: OffsetDn = None,
) -> None:
    """Cut a scene and polygons of classes into files of PhilEO Bench."""
    from geoladder.data.bench.from_image import bench_from_image

    names = bands.split(",") if bands else None
    renamed = dict(pair.split("=", 1) for pair in rename.split(",") if "=" in pair)
    bench_from_image(
        images, polygons, out, task, attribute, renamed, region, patch_px, block_px, names, offset_dn
    )
