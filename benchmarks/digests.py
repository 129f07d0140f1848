"""What seals cost: their share of a stream of chips, and of all jobs of a study.

    python benchmarks/digests.py                            # the stream: a minute
    python benchmarks/digests.py --configfile config.yaml   # the whole study, too, in a folder of its own

The stream is one epoch over chips of 128 px that are seen for the first time, so that every shard is verified. Times
of the stream are CPU seconds of one process, and those of the study come from one run: the seconds spent on seals,
noted by each job, over those that Snakemake measured for the jobs. Exits with 1 where a bar is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geoladder.data.batches import chip_store
from geoladder.data.batches.batch import BandStats
from geoladder.data.batches.chip_store import chip_bytes, shard_files, split_rows, training_chips
from geoladder.data.batches.stats import write_stats
from geoladder.registry.ladder import rung
from geoladder.runs import digest
from geoladder.runs.atomic import atomic_path
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec, StatsSpec

ROOT = Path(__file__).parents[1]
PX, CHIPS, BATCH = 128, 1408, 32
NOTE = """
import time
from geoladder.runs import digest

def noted(real):
    def call(*arguments, **named):
        start = time.perf_counter()
        try:
            return real(*arguments, **named)
        finally:
            with open({file!r}, "a") as file:
                file.write(f"{{time.perf_counter() - start}}\\n")
    return call

digest.intact = noted(digest.intact)
digest.Seal.of = noted(digest.Seal.of)
digest.Seal.write = noted(digest.Seal.write)
"""
"""Read by each Python process of the study when it starts, before anything else imports the module."""


def write_chips(folder: Path) -> None:
    """One shard of noise, and its manifest."""
    rows = np.random.default_rng(0).integers(1, 4000, (CHIPS, chip_bytes(PX) // 2), dtype=np.uint16)
    for path, chips in zip(shard_files(folder, 0, "none"), split_rows(rows, PX), strict=True):
        with atomic_path(path) as temporary:
            np.save(temporary, chips)
    number = np.arange(CHIPS)
    place = {"lat_deg": 10.0, "lon_deg": 10.0, "koppen": 5, "offset_dn": 0, "split": "train"}
    manifest = pd.DataFrame({"chip": number, "shard": 0, "slot": number, "grid_cell": "0U_0R"} | place)
    with atomic_path(folder / "manifest.parquet", "0") as temporary:
        manifest.to_parquet(temporary)


def stream_share(folder: Path) -> float:
    """CPU seconds of verifying over those of all else, from opening the chips to the end of an epoch."""
    write_chips(folder)
    measured = StatsSpec(chips="0")
    write_stats(measured, folder, folder / "stats.json")
    spec = PretrainSpec(
        corpus="noise", fraction=Fraction(1), architecture="unet", size="xs", model=rung("unet", "xs").kwargs,
        seed=0, chips="0", stats=measured.fingerprint, validation_chips=1, transform="sqrt", samples=CHIPS,
        batch=BATCH, lr=0.01, weight_decay=0.0, warmup_share=0.0, gradient_clip=1.0, checkpoint_every=1000,
        objective=Objective(), tensorboard=False, precision="32-true", code=None,
    )  # fmt: skip
    verifying_s, real = 0.0, chip_store.intact

    def timed(*arguments, **named) -> Path:
        nonlocal verifying_s
        start_s = time.process_time()
        path = real(*arguments, **named)
        verifying_s += time.process_time() - start_s
        return path

    stats = BandStats.load(folder / "stats.json", measured.fingerprint)
    digest._known.cache_clear()
    chip_store.intact = timed
    start_s = time.process_time()
    chips = training_chips(spec, folder, stats)
    for _ in zip(range(CHIPS // BATCH), chips.batches(0), strict=False):
        pass
    others_s = time.process_time() - start_s - verifying_s
    print(f"{CHIPS} chips of {PX} px: {others_s:.2f} s, and {1e3 * verifying_s:.0f} ms for seals")
    return verifying_s / others_s


def study_share(study: Path, folder: Path, cores: int) -> float:
    """Seconds that the jobs of a study spend on seals over all seconds of its jobs."""
    notes, site = folder / "seconds.txt", folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NOTE.format(file=str(notes)))
    path = os.pathsep.join([str(site), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", str(cores), "--configfile", study.resolve(), "--quiet", "all", "--"]
    subprocess.run(
        [*command, "results/figures/scaling.pdf"], env=os.environ | {"PYTHONPATH": path}, check=True
    )
    sealing_s = [float(line) for line in notes.read_text().split()]
    jobs_s = sum(
        pd.read_csv(file, sep="\t")["s"].sum() for file in (folder / "logs/benchmarks").rglob("*.tsv")
    )
    print(f"{study}: {sum(sealing_s):.2f} s for {len(sealing_s)} uses of seals in {jobs_s:.0f} s of jobs")
    return sum(sealing_s) / jobs_s


def main() -> int:
    """Measure, print, and fail where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, help="a study to run whole")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    missed = False
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "chips").mkdir()
        shares = {
            "a stream of chips": (sorted(stream_share(Path(name) / "chips") for _ in range(3))[1], 0.03)
        }
        if options.configfile:
            shares["a study"] = (study_share(options.configfile, Path(name), options.cores), 0.02)
    for what, (share, limit) in shares.items():
        missed |= share > limit
        print(f"seals take {100 * share:.2f} % of {what}; at most {100 * limit:g} % is asked for")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
