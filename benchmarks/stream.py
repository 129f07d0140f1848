"""Reading tiles and chips against the bare libraries underneath, in one process.

    pip install -c constraints.txt -e '.[codec]'     # chips by blosc2
    python benchmarks/stream.py [MAJORTOM_FOLDER]

Without a folder three tiles of 1068 pixels of the synthetic Earth are rendered (a minute). Times are CPU seconds,
medians of interleaved repeats; exits with 1 where a bar is missed.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from rasterio.io import MemoryFile

from geoladder.data.archives.majortom import MajorTom
from geoladder.data.batches.chip_store import ChipStore, shard_files
from geoladder.data.batches.chips import write_chips
from geoladder.data.batches.crops import take_crops
from geoladder.data.batches.tile_stream import open_tiles
from geoladder.data.index.build import build_index
from geoladder.data.labels.bands import BANDS
from geoladder.study.corpora import Corpus, Earth
from geoladder.study.specs import ChipsSpec, IndexSpec
from geoladder.synth.archive import write_archive

PX, CROPS, REPEATS = 128, 16, 7
ROWS = 2_250_000
MISSED: list[str] = []


def interleaved(*runs) -> list[float]:
    """Median CPU seconds of each."""
    times = [[] for _ in runs]
    for _ in range(REPEATS):
        for seconds, run in zip(times, runs, strict=True):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
    return [median(seconds) for seconds in times]


def bar(name: str, value: float, limit: float, at_least: bool) -> None:
    ok = value >= limit if at_least else value <= limit
    if not ok:
        MISSED.append(name)
    print(f"{name:58} {value:8.3g}  bar {'>=' if at_least else '<='} {limit:<6g} {'ok' if ok else 'MISSED'}")


def decode(archive: Path) -> None:
    reader = MajorTom(archive)
    part = min((archive / "images").glob("*.parquet"))
    row = pq.ParquetFile(part).read_row_group(0, columns=[*BANDS, "cloud_mask"]).to_pylist()[0]

    def bare() -> None:
        for data in row.values():
            with MemoryFile(data) as file, file.open() as image:
                image.read(1)

    ours, theirs = interleaved(lambda: reader.read(part.name, 0), bare)
    bar("decode a tile, over MemoryFile reads of the same bytes", ours / theirs, 1.15, at_least=False)

    def crops(count: int) -> None:
        take_crops(reader.read(part.name, 0), PX, count, 1.0, np.random.default_rng(0))

    many, one = interleaved(lambda: crops(CROPS), lambda: crops(1))
    bar(f"samples/s with {CROPS} crops a tile, over one", CROPS * one / many, 8, at_least=True)


def cut(archive: Path, folder: Path, codec: str) -> ChipStore:
    index = folder / "index.parquet"
    tiles = IndexSpec(
        archive="0", bench="0", one_product_per_cell=True, max_cloud_percent=100, max_nodata_share=1,
        max_corrupt_share=1, harmonise="none", validation_share=0.01, bench_buffer_km=0, exclude_bench="none",
    )  # fmt: skip
    if not index.exists():
        build_index(tiles, archive, folder, index, folder / "ledger.csv")
    limits = {"chip_max_cloud_share": 1.0, "max_corrupt_share": 1.0}
    chips = ChipsSpec(index=tiles.fingerprint, chip_px=PX, chip_codec=codec, **limits)
    write_chips(chips, archive, index, folder / codec)
    return ChipStore(folder / codec)


def compressed(store: ChipStore, folder: Path) -> None:
    import blosc2

    order = np.random.default_rng(0).permutation(len(store))
    frames = [blosc2.open(str(path), mmap_mode="r") for path in sorted(folder.glob("chips-*"))]
    buffer = np.empty(frames[0].chunksize // 2, np.uint16)

    def bare() -> None:
        for frame in frames:
            for chunk in range(frame.nchunks):
                frame.decompress_chunk(chunk, dst=buffer)

    ours, theirs = interleaved(lambda: store.read(order), bare)
    bar("compressed chips/s, over bare blosc2", theirs / ours, 0.85, at_least=True)
    size = sum(path.stat().st_size for path in folder.glob("chips-*")) / len(store) / 1024
    bar(f"KiB a compressed chip of {PX} px", size, 115, at_least=False)


def uncompressed(store: ChipStore, folder: Path) -> None:
    order = np.random.default_rng(0).permutation(len(store))
    maps = [np.load(path, mmap_mode="r") for path in shard_files(folder, 0, "none")]

    def bare() -> None:
        for stored in maps:
            stored.copy()

    ours, theirs = interleaved(lambda: store.read(order), bare)
    bar("uncompressed chips/s, over a memory map's copy", theirs / ours, 0.6, at_least=True)


def index_of_everything(folder: Path) -> None:
    """Open the index of an archive as large as MajorTOM; seconds, and growth of this process in MB."""
    number = np.arange(ROWS)
    table = pd.DataFrame(
        {
            "grid_cell": [f"{tile // 3000}U_{tile % 3000}R" for tile in number],
            "product_id": [f"S2A_MSIL2A_20200101T000000_N0500_R001_T01CCV_{tile:015d}" for tile in number],
            "part": [f"part_{tile // 500:05d}.parquet" for tile in number],
            "row": number % 500,
            "offset_dn": 1000,
            "split": np.where(number % 50 == 0, "val", "train"),
        }
    )
    path = folder / "everything.parquet"
    table.to_parquet(path, index=False)
    del table
    before, start = resident_mb(), time.process_time()
    opened = open_tiles(path, "majortom", 1, 0)
    seconds = time.process_time() - start
    bar(f"seconds to open an index of {ROWS:,} rows ({len(opened):,} tiles)", seconds, 2, at_least=False)
    bar("MB it keeps", max(0.0, resident_mb() - before), 300, at_least=False)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "archive"
        if len(sys.argv) == 1:
            write_archive(source, Earth(tile_px=1068), Corpus(tiles=3), 1)
        decode(source)
        compressed(cut(source, work, "blosc2"), work / "blosc2")
        uncompressed(cut(source, work, "none"), work / "none")
        index_of_everything(work)
    sys.exit(bool(MISSED))
