"""What a study will cost, before anything is fetched or trained: bytes, chips, FLOPs, GPU-hours, memory.

Nothing is measured here, so that 23 TB on 32 GPUs are planned in seconds on a laptop. Training FLOPs are counted as
`geoladder profile` counts them. How much of a card's peak they reach, and how much memory a step takes beside the
estimate, was measured where the GPU check ran on such a card; else it is an assumption. The plan says which.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from geoladder.cost.corpora import archive_size
from geoladder.cost.measured import MeasuredRung
from geoladder.cost.rung_cost import ASSUMED_UTILISATION, PEAK_TFLOPS, rung_cost
from geoladder.data.fetch.plan import human
from geoladder.data.index.evidence import FILE, read_evidence
from geoladder.study.arms import Arm, Cell
from geoladder.study.nodes import Nodes
from geoladder.study.study import Study

CHIP_BYTES_PER_PIXEL = 11
"""Four bands of 10 m and a quarter of six, two bytes each."""
BENCH_PX = 128
"""Side of PhilEO Bench's patches."""
BUCKETS = 6
VALIDATION_PATCHES = 0.2
"""Per bucket, of n."""
LIMITS_GB = (40, 80)
"""Cards for which the largest batch of one device is told."""


class Machine(NamedTuple):
    """What the plan is for."""

    card: str = "a100-40"
    gpus: int = 32
    utilisation: float = ASSUMED_UTILISATION
    """Share of the card's peak that training reaches, of rungs that were not measured."""
    measured: Mapping[tuple[str, str], MeasuredRung] = MappingProxyType({})
    """Rungs measured on such a card, by (architecture, size)."""

    def rung(self, architecture: str, size: str) -> MeasuredRung:
        """A rung as measured, or as assumed: memory as estimated."""
        return self.measured.get((architecture, size), MeasuredRung(self.utilisation, 1.0))

    def hours(self, gflops: float, architecture: str, size: str) -> float:
        """GPU-hours for so many GFLOP of a rung."""
        return gflops / (PEAK_TFLOPS[self.card] * 1e3 * self.rung(architecture, size).utilisation) / 3600


class Plan(NamedTuple):
    """Tables of a plan, one row per archive, pretraining cell, fine-tuning arm and linear cell, and the totals."""

    archives: pd.DataFrame
    cells: pd.DataFrame
    arms: pd.DataFrame
    linear: pd.DataFrame
    totals: dict[str, Any]


def plan_study(study: Study, machine: Machine) -> Plan:
    """Plan a study.

    Returns:
        archives: corpus, path, tiles, tile_px, bytes, chips, chip_bytes, told_by, evidence (what the numbers of an
        archive that was indexed here are taken for). cells: corpus, architecture, size, seed, parameters, chips,
        samples, epochs, gflops_train (of all samples), utilisation, gpu_hours, batch_40gb and batch_80gb (images that
        fit on one card in bf16-mixed, weights not shared), batch_40gb_shared and batch_80gb_shared (weights shared by
        `compute.devices`). arms: corpus, architecture, size, runs, gflops, gpu_hours. linear: corpus, architecture,
        size, seed, heads, gflops, gpu_hours. totals: bytes, chip_bytes, gflops, gpu_hours, wall_hours, what is
        assumed, bench_evidence, and the measured rungs.

    Raises:
        GeoladderError: a rung is unknown, or cannot take the study's images.
    """
    archives = pd.DataFrame([_archive_row(study, name) for name in study.corpora])
    chips = dict(zip(archives["corpus"], archives["chips"], strict=True))
    nodes = Nodes(study)
    cells = pd.DataFrame(_cell_rows(study, nodes, chips, machine))
    arms = pd.DataFrame(_arm_rows(study, nodes, machine))
    linear = pd.DataFrame(
        _linear_rows(study, machine), columns=[*Cell._fields, "heads", "gflops", "gpu_hours"]
    )
    hours = float(sum(table["gpu_hours"].sum() for table in (cells, arms, linear)))
    longest = float(cells["gpu_hours"].max() / study.compute.devices)
    totals = {
        # Corpora that share a folder share its bytes.
        "bytes": int(archives.groupby("path")["bytes"].max().sum()),
        "chip_bytes": int(archives["chip_bytes"].sum()),
        "gflops": float(cells["gflops_train"].sum() + arms["gflops"].sum() + linear["gflops"].sum()),
        "gpu_hours": hours,
        # Cells run side by side, but one cell only on its own devices.
        "wall_hours": max(hours / machine.gpus, longest),
        "bench_evidence": _evidence("bench"),
        "card": machine.card,
        "gpus": machine.gpus,
        "utilisation": machine.utilisation,
        "measured": {
            f"{architecture}-{size}": rung._asdict()
            for (architecture, size), rung in machine.measured.items()
            if ((cells["architecture"] == architecture) & (cells["size"] == size)).any()
        },
    }
    return Plan(archives, cells, arms, linear, totals)


def _archive_row(study: Study, name: str) -> dict[str, Any]:
    folder = study.corpora[name].path or Path(f"data/{name}/archive")
    size = archive_size(study.corpora[name], study.earth, folder)
    chip_px = study.cleaning.chip_px
    chips = cut = size.tiles * (size.tile_px // chip_px) ** 2
    if study.pretrain.read == "tiles":  # then only the validation set is cut
        cut = round(chips * study.validation.share) if name == study.validation.corpus else 0
    return {
        "corpus": name,
        "path": str(folder),
        "tiles": size.tiles,
        "tile_px": size.tile_px,
        "bytes": size.size_bytes,
        "chips": chips,
        "chip_bytes": cut * CHIP_BYTES_PER_PIXEL * chip_px**2,
        "told_by": size.told_by,
        "evidence": _evidence(name),
    }


def _evidence(name: str) -> str:
    return str(read_evidence(Path("data") / name / FILE) or "not indexed yet")


def _cell_rows(study: Study, nodes: Nodes, chips: dict[str, int], machine: Machine) -> list[dict[str, Any]]:
    rows = []
    specs = [*nodes.pretrain.values(), *nodes.oracle.values()]
    for cell, spec in zip([*study.cells(), *study.oracle_cells()], specs, strict=True):
        cost = rung_cost(cell.architecture, cell.size, study.cleaning.chip_px)
        training = spec.fraction * Fraction(1 - study.validation.share)
        unique = max(1, round(chips[spec.corpus] * training))
        gflops = cost.gflops_train * spec.samples
        row = cell._asdict() | {
            "parameters": cost.parameters,
            "chips": unique,
            "samples": spec.samples,
            "epochs": spec.samples / unique,
            "gflops_train": gflops,
            "utilisation": machine.rung(cell.architecture, cell.size).utilisation,
            "gpu_hours": machine.hours(gflops, cell.architecture, cell.size),
        }
        memory_factor = machine.rung(cell.architecture, cell.size).memory_factor
        for limit in LIMITS_GB:
            for suffix, shards in (("", 1), ("_shared", study.compute.devices)):
                row[f"batch_{limit}gb{suffix}"] = cost.largest_batch(limit * 1e9 / memory_factor, shards)
        rows.append(row)
    return rows


def _arm_rows(study: Study, nodes: Nodes, machine: Machine) -> list[dict[str, Any]]:
    """Fine-tuning: training steps at full cost; validations and the test forward only.

    A run that may end early counts as if it went on to its last step; one that chooses its rate, with the runs tried.
    """
    px = study.bench.patch_px if study.bench.source == "synthetic" else BENCH_PX
    gflops: dict[Arm, list[float]] = {}
    runs = list(zip(study.points(), nodes.finetune.values(), strict=True))
    tried = {choice: len(spec.factors) for choice, spec in nodes.rates.items()}
    chosen = {choice: file for file, choice in nodes.rate_behind.items() if choice}
    repeats = {file: tried[choice] for choice, file in chosen.items()}
    for (point, spec), file in zip(runs, nodes.finetune, strict=True):
        cost = rung_cost(point.arm.architecture, point.arm.size, px)
        length = spec.length(BUCKETS * point.n)
        validation_patches = BUCKETS * math.ceil(VALIDATION_PATCHES * point.n)
        judged = validation_patches * len(length.validated) * cost.gflops_fwd
        run = cost.gflops_train * length.ceiling * spec.batch + judged
        total = run * (1 + repeats.get(file, 0)) + cost.gflops_fwd * spec.test_patches
        gflops.setdefault(point.arm, []).append(total)
    return [
        arm._asdict()
        | {"runs": len(costs), "gflops": sum(costs)}
        | {"gpu_hours": machine.hours(sum(costs), arm.architecture, arm.size)}
        for arm, costs in gflops.items()
    ]


def _linear_rows(study: Study, machine: Machine) -> list[dict[str, Any]]:
    """Linear heads: one forward pass of each labelled and test patch; algebra is left out."""
    px = study.bench.patch_px if study.bench.source == "synthetic" else BENCH_PX
    tasks, draws, sizes = study.linear_subsets()
    rows = []
    for cell in study.linear_cells():
        patches = len(tasks) * (BUCKETS * max(sizes) * len(draws) + study.finetune.test_patches)
        gflops = rung_cost(cell.architecture, cell.size, px).gflops_fwd * patches
        row = cell._asdict() | {"heads": len(tasks) * len(draws) * len(sizes), "gflops": gflops}
        rows.append(row | {"gpu_hours": machine.hours(gflops, cell.architecture, cell.size)})
    return rows


def describe(plan: Plan) -> str:
    """A plan in five short tables, totals and assumptions, for a terminal; the CSVs have every line."""
    totals, archives, cells, arms = plan.totals, plan.archives, plan.cells, plan.arms
    batches = [name for name in cells if str(name).startswith("batch_")]
    rungs = cells.groupby(["corpus", "architecture", "size"], sort=False).agg(
        seeds=("seed", "size"),
        **{name: (name, "first") for name in ("parameters", "chips", "samples", "epochs", "utilisation")},
        petaflop=("gflops_train", lambda gflops: gflops.sum() / 1e6),
        gpu_hours=("gpu_hours", "sum"),
    )
    heads = plan.linear.groupby(["architecture", "size"], sort=False, as_index=False).agg(
        encoders=("heads", "size"),
        heads=("heads", "sum"),
        petaflop=("gflops", lambda gflops: gflops.sum() / 1e6),
        gpu_hours=("gpu_hours", "sum"),
    )
    tables = {
        "Archives": archives.drop(columns=["path", "evidence"]).assign(
            bytes=archives["bytes"].map(human), chip_bytes=archives["chip_bytes"].map(human)
        ),
        "Pretraining": rungs.reset_index(),
        "Images that fit on one card, bf16-mixed; `shared`: weights shared by a cell's devices": cells[
            ["architecture", "size", "parameters", *batches]
        ].drop_duplicates(["architecture", "size"]),
        "Fine-tuning": arms.drop(columns="gflops").assign(petaflop=arms["gflops"] / 1e6),
        "Linear heads on frozen encoders": heads,
    }
    texts = [
        f"{title}\n{table.to_string(index=False, float_format='{:.3g}'.format)}"
        for title, table in tables.items()
    ]
    peak, measured = f"{PEAK_TFLOPS[totals['card']]} TFLOP/s bf16", ", ".join(totals["measured"])
    measured_line = (
        f"Measured on {totals['card']}: utilisation and memory of {measured}\n" if measured else ""
    )
    others = " for the other rungs" if measured else ""
    return "\n\n".join(
        [
            *texts,
            *(
                f"Evidence of {name}: {told}"
                for name, told in [
                    *zip(archives["corpus"], archives["evidence"], strict=True),
                    ("bench", totals["bench_evidence"]),
                ]
            ),
            f"Total: {human(totals['bytes'])} to fetch, {human(totals['chip_bytes'])} of chips, "
            f"{totals['gflops'] / 1e6:.4g} petaFLOP, {totals['gpu_hours']:.4g} GPU-hours, "
            f"{totals['wall_hours']:.4g} hours on {totals['gpus']} x {totals['card']}\n"
            f"{measured_line}Assumed: {totals['utilisation']:.0%} of {peak}{others}; cells side by side; "
            "archives whole, before cleaning and fractions; chips uncompressed",
        ]
    )
