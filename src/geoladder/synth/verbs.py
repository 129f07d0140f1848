"""The verbs `make-archive` and `make-bench`. Heavy imports wait until one runs."""

from typing import TYPE_CHECKING

from geoladder.errors import GeoladderError
from geoladder.options import Out, Spec, Threads

if TYPE_CHECKING:
    from geoladder.study.corpora import Earth
    from geoladder.synth.earth import EarthConfig


def make_archive(*, spec: Spec, out: Out, threads: Threads = 1) -> None:
    """Write a synthetic MajorTOM archive into a folder."""
    from geoladder.study.specs import ArchiveSpec
    from geoladder.synth.archive import write_archive

    node = ArchiveSpec.from_json(spec)
    corpus = node.corpus
    write_archive(out, _earth(node.earth), corpus.like, corpus.tiles, node.tile_px, threads, corpus.seed)


def make_bench(*, spec: Spec, out: Out, threads: Threads = 1) -> None:
    """Write a synthetic PhilEO Bench into a folder."""
    from geoladder.study.specs import BenchArchiveSpec
    from geoladder.synth.bench import write_bench

    node = BenchArchiveSpec.from_json(spec)
    bench = node.bench
    write_bench(
        out,
        _earth(node.earth),
        bench.patch_px,
        bench.train_tiles,
        bench.test_tiles,
        bench.patches_per_tile,
        bench.seed,
        threads,
    )


def _earth(settings: "Earth | None") -> "EarthConfig":
    """The synthetic Earth of a spec; the size of tiles is not the Earth's but the archive's."""
    from geoladder.synth.earth import EarthConfig

    if settings is None:
        raise GeoladderError("a real archive is not made: this node is for `source: synthetic`")
    return EarthConfig(**settings.model_dump(exclude={"tile_px"}))
