"""The verbs `make-archive` and `make-bench`. Heavy imports wait until one runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from geoladder.errors import GeoladderError

if TYPE_CHECKING:
    from geoladder.study.corpora import Earth


def make_archive(*, spec: str, out: Path, threads: int = 1) -> None:
    """Write a synthetic MajorTOM archive.

    Args:
        spec: canonical JSON of an archive node.
        out: folder of the archive.
        threads: of the CPU.
    """
    from geoladder.study.specs import ArchiveSpec
    from geoladder.synth.archive import write_archive

    node = ArchiveSpec.from_json(spec)
    write_archive(out, _made(node.earth), node.corpus, threads)


def make_bench(*, spec: str, out: Path, threads: int = 1) -> None:
    """Write a synthetic PhilEO Bench.

    Args:
        spec: canonical JSON of a bench node.
        out: folder of the bench.
        threads: of the CPU.
    """
    from geoladder.study.specs import BenchArchiveSpec
    from geoladder.synth.bench import write_bench

    node = BenchArchiveSpec.from_json(spec)
    write_bench(out, _made(node.earth), node.bench, threads)


def _made(earth: "Earth | None") -> "Earth":
    if earth is None:
        raise GeoladderError("a real archive is not made: this node is for `source: synthetic`")
    return earth
