"""The input side: chips from disk and crops from tiles, alone and fed to the device. Who waits for whom?

Makes a small synthetic archive, which takes pyarrow and rasterio; without them the part is left out.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from benchmarks.gpu.cell import cell_spec
from benchmarks.gpu.check import Check, Row, left_out

from geoladder.data.batches.batch import PretrainBatch, Source
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.study.pretraining import Objective
from geoladder.study.specs import ChipsSpec, IndexSpec, StatsSpec, TileReading
from geoladder.training.objective import pretrain_terms
from geoladder.training.trainer import adamw

NEEDED = ("pyarrow", "rasterio")


def feed(check: Check) -> Iterator[Row]:
    """Samples per second of each source alone, of steps on one batch, and of both together."""
    architecture, size = ("vit_upernet", "P16-100M") if not check.dry else ("unet", "xs")
    try:
        with tempfile.TemporaryDirectory() as folder:
            sources = open_sources(check, Path(folder), architecture, size)
            for name, source in sources.items():
                yield from fed(check, name, source, architecture, size)
    except ModuleNotFoundError as problem:
        yield left_out("chips and tiles", "", f"needs {' and '.join(NEEDED)}; {problem}")


def open_sources(check: Check, folder: Path, architecture: str, size: str) -> dict[str, Source]:
    """Chips and tile crops of one synthetic archive."""
    from geoladder.data.batches.batch import BandStats
    from geoladder.data.batches.chip_store import training_chips
    from geoladder.data.batches.chips import write_chips
    from geoladder.data.batches.stats import write_stats
    from geoladder.data.batches.tile_stream import TileCrops
    from geoladder.data.index.build import build_index
    from geoladder.study.corpora import Corpus, Earth
    from geoladder.synth.archive import write_archive

    tiles, tile_px, px = check.sized(8, 4), check.sized(540, 96), check.sized(128, 16)
    archive, index, chips = folder / "archive", folder / "index.parquet", folder / "chips"
    write_archive(archive, Earth(tile_px=tile_px), Corpus(like="majortom", tiles=tiles), check.sized(8, 1))
    index_spec = IndexSpec(
        archive="0", bench="0", one_product_per_cell=True, max_cloud_percent=100, max_nodata_share=1,
        max_corrupt_share=1, harmonise="none", validation_share=0.01, bench_buffer_km=0, exclude_bench="none",
    )  # fmt: skip
    build_index(index_spec, archive, folder, index, folder / "ledger.csv")
    cutting = ChipsSpec(index=index_spec.fingerprint, chip_px=px, chip_max_cloud_share=1, max_corrupt_share=1)
    write_chips(cutting, archive, index, chips)
    measured = StatsSpec(chips=cutting.pixels)
    write_stats(measured, chips, folder / "stats.json")
    stats = BandStats.load(folder / "stats.json", measured.fingerprint)
    read = {"corpus": "majortom", "chips": cutting.pixels, "stats": measured.fingerprint}
    spec = cell_spec(architecture, size, 100, check.sized(32, 4)).model_copy(update=read)
    reading = TileReading(crops_per_tile=16, shuffle_window=64, max_cloud_share=1.0)
    tiled = spec.model_copy(update={"tiles": reading})
    return {
        "chips from disk": training_chips(spec, chips, stats),
        "crops from tiles": TileCrops(tiled, archive, index, stats, px, check.sized(8, 0)),
    }


def fed(check: Check, name: str, source: Source, architecture: str, size: str) -> Iterator[Row]:
    """Rows of one source."""
    model = PretrainModel(build_backbone(architecture, size)).to(check.device)
    optimizer, objective = adamw(model, 1e-4, 0.0), Objective()
    batches, steps = source.batches(0), check.sized(30, 2)

    def step(batch: PretrainBatch) -> None:
        with torch.autocast(check.device, torch.bfloat16, enabled=check.device == "cuda"):
            pretrain_terms(model(batch.pixels, batch.mask), batch, objective).total(objective).backward()
        optimizer.step()
        optimizer.zero_grad()

    resident = next(batches).to(check.device)
    samples = len(resident.pixels)
    step_s = check.seconds(lambda: step(resident))
    source_s = mean_seconds(check, lambda: next(batches), steps)
    fed_s = mean_seconds(check, lambda: step(next(batches).to(check.device)), steps)
    setting = f"{architecture}-{size}, batch {samples}"
    for what, seconds in (("source alone", source_s), ("steps alone", step_s), ("steps fed", fed_s)):
        yield Row(name, setting, what, samples / seconds, "1/s")
    slower = "the source" if source_s > step_s else "the device"
    waiting = max(0.0, 1 - step_s / fed_s)
    yield Row(name, setting, "share of time steps wait", waiting, "1", note=f"{slower} is slower")


def mean_seconds(check: Check, run: Callable[[], object], steps: int) -> float:
    """Mean seconds of so many calls in a row, without waiting between them."""
    check.sync()
    start = time.perf_counter()
    for _ in range(steps):
        run()
    check.sync()
    return (time.perf_counter() - start) / steps
