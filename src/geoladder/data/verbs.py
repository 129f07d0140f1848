"""The verbs that prepare data: `bench-index`, `index`, `chips`, `stats`. Heavy imports wait until one runs."""

from pathlib import Path


def bench_index(*, bench: Path, out: Path) -> None:
    """Index the bench's files.

    Args:
        bench: folder of PhilEO Bench.
        out: parquet to write.
    """
    from geoladder.data.bench.reader import index_bench

    index_bench(bench, out)


def index(*, spec: str, archive: Path, bench_index: Path, out: Path, ledger: Path) -> None:
    """Index an archive's usable tiles.

    Args:
        spec: canonical JSON of an index node.
        archive: its folder.
        bench_index: parquet written by `bench-index`; tiles near the bench are left out.
        out: parquet to write.
        ledger: CSV of every tile, and why it was dropped.
    """
    from geoladder.data.index.build import build_index
    from geoladder.study.specs import IndexSpec

    build_index(IndexSpec.from_json(spec), archive, bench_index, out, ledger)


def chips(
    *, spec: str, archive: Path, index: Path, out: Path, parts: str | None = None, merge: int = 0
) -> None:
    """Cut an archive's tiles into training chips.

    Args:
        spec: canonical JSON of a chips node.
        archive: its folder.
        index: parquet written by `index`.
        out: folder of the chips.
        parts: cut only this group of parts, such as 3/16.
        merge: join the chips of so many groups, all cut before.
    """
    from geoladder.data.batches.chips import merge_chips, write_chips, write_group
    from geoladder.data.batches.pieces import Group
    from geoladder.study.specs import ChipsSpec

    node = ChipsSpec.from_json(spec)
    if parts:
        write_group(node, archive, index, out, Group.parse(parts))
    elif merge:
        merge_chips(node, archive, index, out, merge)
    else:
        write_chips(node, archive, index, out)


def stats(*, spec: str, chips: Path, out: Path) -> None:
    """Measure band statistics in reflectance.

    Args:
        spec: canonical JSON of a statistics node.
        chips: folder of chips.
        out: JSON to write.
    """
    from geoladder.data.batches.stats import write_stats
    from geoladder.study.specs import StatsSpec

    write_stats(StatsSpec.from_json(spec), chips, out)
