"""What this card does with geoladder: parity, speed, memory and resumption, in eight minutes.

    python -m benchmarks.gpu [--minutes 8] [--parts kernels,rungs] [--out results/reference/gpu]
    python -m benchmarks.gpu --dry --out /tmp/check       # the same on a CPU, with tiny shapes

Run in the repository's root, with `pip install -e .`, or with `PYTHONPATH=src` and no more than torch 2.11 or later,
lightning, numpy, pandas, scipy, safetensors, numba and pydantic (the part `feed` is left out then). Writes
<card>.csv, a row for each measured number, which `geoladder plan` reads, and <card>.md, the same to be read. Exits
with 1 where a limit is missed or a part fails, with 2 where there is no card.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from benchmarks.gpu import table
from benchmarks.gpu.ceilings import ceilings
from benchmarks.gpu.cell import cell
from benchmarks.gpu.check import Check, Row
from benchmarks.gpu.families import families
from benchmarks.gpu.feed import feed
from benchmarks.gpu.kernels import kernels
from benchmarks.gpu.parallel import parallel
from benchmarks.gpu.rungs import card_of, rungs
from benchmarks.gpu.tuning import tuning

from geoladder.cost.rung_cost import PEAK_TFLOPS

log = logging.getLogger(__name__)

PARTS: dict[str, tuple[Callable[[Check], Iterator[Row]], float]] = {
    "ceilings": (ceilings, 0.1),
    "kernels": (kernels, 0.2),
    "families": (families, 0.3),
    "parallel": (parallel, 0.3),
    "cell": (cell, 0.4),
    "tuning": (tuning, 0.4),
    "feed": (feed, 0.4),
    "rungs": (rungs, 1.0),
}
"""Each part, and the share of the time left after which it begins nothing new."""


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="nothing new is begun after so many")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas")
    parser.add_argument(
        "--out", type=Path, default=Path("results/reference/gpu"), help="folder of the tables"
    )
    parser.add_argument("--dry", action="store_true", help="tiny shapes on the CPU")
    return parser


def main() -> int:
    """Run the parts, write the tables as they grow; exit status."""
    chosen = options().parse_args()
    parts = chosen.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        options().error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if chosen.dry:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch has not looked yet
        torch.set_num_threads(1)  # more only wait for each other on such small tensors
    elif not torch.cuda.is_available():
        print("no CUDA GPU here; --dry shows on a CPU that everything runs", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    device = "cpu" if chosen.dry else "cuda"
    torch.backends.cudnn.allow_tf32 = False
    facts = table.environment(device)
    card = card_of(facts["device"], facts["memory_bytes"]) if device == "cuda" else None
    peak = float(PEAK_TFLOPS[card]) if card else float("nan")
    check, end_s = Check(device, chosen.dry, peak), time.monotonic() + 60 * chosen.minutes
    name = "dry" if chosen.dry else card or table.slug(facts["device"])
    results: list[tuple[str, Row]] = []
    for part in parts:
        measure, share = PARTS[part]
        now = time.monotonic()
        print(f"{part} ...", flush=True)
        for row in guarded(part, measure, replace(check, end_s=now + share * (end_s - now))):
            results.append((part, row))
            print(table.line(part, row), flush=True)
        print(f"{part}: {time.monotonic() - now:.1f} s")
        table.write(chosen.out / name, results, facts)
    failed = [f"{part}: {table.line(part, row)}" for part, row in results if row.ok is False]
    print(f"{len(results)} rows in {chosen.out / name}.csv; {len(failed)} failed", *failed, sep="\n")
    return bool(failed)


def guarded(part: str, measure: Callable[[Check], Iterator[Row]], check: Check) -> Iterator[Row]:
    """Rows of a part; an error in it becomes a failed row, and the other parts go on."""
    try:
        yield from measure(check)
    except Exception as problem:
        log.exception("%s failed", part)
        yield Row(
            part, "", "failed", None, "", "must run", False, f"{type(problem).__name__}: {problem}"[:300]
        )


if __name__ == "__main__":
    sys.exit(main())
