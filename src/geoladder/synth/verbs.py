"""The verbs `make-archive`, `make-bench` and `make-labels`. Heavy imports wait until one runs."""

from typing import TYPE_CHECKING

from geoladder.errors import GeoladderError
from geoladder.options import Chips, Out, Spec, Threads

if TYPE_CHECKING:
    from geoladder.study.corpora import Earth


def make_archive(*, spec: Spec, out: Out, threads: Threads = 1) -> None:
    """Write a synthetic MajorTOM archive into a folder."""
    from geoladder.study.specs import ArchiveSpec
    from geoladder.synth.archive import write_archive

    node = ArchiveSpec.from_json(spec)
    write_archive(out, _made(node.earth), node.corpus, threads)


def make_bench(*, spec: Spec, out: Out, threads: Threads = 1) -> None:
    """Write a synthetic PhilEO Bench into a folder."""
    from geoladder.study.specs import BenchArchiveSpec
    from geoladder.synth.bench import write_bench

    node = BenchArchiveSpec.from_json(spec)
    write_bench(out, _made(node.earth), node.bench, threads)


def make_labels(*, spec: Spec, chips: Chips, out: Out, threads: Threads = 1) -> None:
    """Write the labels that the synthetic Earth knows of a folder of chips into a folder."""
    from geoladder.study.specs import LabelsSpec
    from geoladder.synth.labels import write_labels

    write_labels(LabelsSpec.from_json(spec), chips, out, threads)


def _made(earth: "Earth | None") -> "Earth":
    if earth is None:
        raise GeoladderError("a real archive is not made: this node is for `source: synthetic`")
    return earth
