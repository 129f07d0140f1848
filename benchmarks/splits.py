"""Seconds and memory of few-shot selections at the bench's published sizes, by its own protocol.

Writes a bench of the published number of patches, 128 px each, in as many files as the bench has tiles: files of one
length are links to one file, of which three patches in five have roads. So what is measured is opening and reading in
random order through the page cache, not a disk. Each selection runs in a process of its own, 5,000 patches per bucket
beside all smaller n.

    python benchmarks/splits.py --folder /tmp/splits
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.data.archives.footprints import COLUMNS
from geoladder.data.bench.files import parse
from geoladder.data.bench.reader import Bench
from geoladder.data.bench.split import write_split
from geoladder.registry import TASKS
from geoladder.study.downstream_specs import SplitSpec

BAR_S, BAR_GB = 10.0, 1.0
PX = 128
SIZES = {  # patches of land cover, training and validation; roads lack some of them
    "europe": (142486, 15948),
    "east-africa": (225800, 25301),
    "eq-guinea": (209211, 23552),
    "north-america": (92097, 10295),
    "south-america": (62884, 7099),
    "japan": (33591, 3768),
}
TILE_PATCHES = {"train": 609, "val": 68}
"""Of a tile, on average: 766,069 and 85,964 in 1258 tiles."""
DENSE_SHARE = 0.6
TYPES = {"roads": np.float32, "lc": np.uint8}


def write_bench(folder: Path) -> None:
    """Write the label files, and the index that `bench-index` would."""
    rows = []
    for region, totals in SIZES.items():
        for split, total in zip(TILE_PATCHES, totals, strict=True):
            tiles, rest = divmod(total, TILE_PATCHES[split])
            for tile, patches in enumerate([TILE_PATCHES[split]] * tiles + [rest] * (rest > 0)):
                stem = folder / f"{region}_{tile:04d}_{split}"
                for label in TYPES:
                    Path(f"{stem}_label_{label}.npy").hardlink_to(_labels(folder, label, patches))
                file = parse(Path(f"{stem}_s2.npy"))
                rows.append(
                    {
                        **{name: getattr(file, name) for name in ("region", "tile", "split", "bucket")},
                        **{"file": file.path.name, "patches": patches, "patch_px": PX},
                        **{"date_patches": [patches], "offset_dn": [0]},
                        **dict.fromkeys(COLUMNS, np.nan),
                        **{f"has_{name}": task.label in TYPES for name, task in TASKS.items()},
                        **{f"{name}_scale": 1.0 for name in TASKS},
                    }
                )
    pd.DataFrame(rows).to_parquet(folder / "index.parquet")


def _labels(folder: Path, label: str, patches: int) -> Path:
    path = folder / f"{label}_{patches}.npy"
    if not path.exists():
        dense = np.random.default_rng(patches).random((patches, 1, 1, 1)) < DENSE_SHARE
        maps = np.broadcast_to(dense * 0.1 if label == "roads" else 10, (patches, PX, PX, 1))
        np.save(path, maps.astype(TYPES[label]))
    return path


def select(folder: Path, task: str) -> None:
    """One selection; prints seconds and the most memory this process had, in GB."""
    spec = SplitSpec(
        task=task,
        n=[50, 100, 500, 1000, 5000],
        protocol="philEO",
        seed=None,
        validation="adjacent",
        allow_short=False,
        indices=[],
        bench="",
    )
    start = time.perf_counter()
    write_split(spec, Bench(folder, folder / "index.parquet"), folder / "split.parquet", [])
    wall_s, cpu_s = time.perf_counter() - start, time.process_time()
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{wall_s:.2f} {cpu_s:.2f} {peak_kb / 2**20:.2f}")


def main() -> int:
    """Measure classes and densities, and fail where the bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--task", help="run this selection alone, here")
    options = parser.parse_args()
    if options.task:
        select(options.folder, options.task)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / "index.parquet").exists():
        write_bench(options.folder)
    failed = False
    for task in ("landcover", "roads"):
        command = [sys.executable, __file__, "--folder", str(options.folder), "--task", task]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        wall_s, cpu_s, gb = map(float, done.stdout.split())
        failed |= wall_s > BAR_S or gb > BAR_GB
        print(f"{task}: {wall_s} s, {cpu_s} s of CPU with imports, {gb} GB; at most {BAR_S} s, {BAR_GB} GB")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
