"""A plan as text for a terminal: archives, rungs with their memory, the costliest lines, totals and assumptions."""

import pandas as pd

from geoladder.cost.cards import CARDS
from geoladder.cost.plan import Plan
from geoladder.data.fetch.plan import human


def describe(plan: Plan) -> str:
    """A plan in four short tables; the CSVs beside it have every line."""
    totals, archives, cells, arms = plan.totals, plan.archives, plan.cells, plan.arms
    batches = [name for name in cells if str(name).startswith("batch_")]
    tables = {
        "Archives": archives.drop(columns="path").assign(
            bytes=archives["bytes"].map(human), chip_bytes=archives["chip_bytes"].map(human)
        ),
        "Pretraining": _cells(cells),
        "Images that fit on one card, bf16-mixed; `shared`: weights shared by a cell's devices": cells[
            ["architecture", "size", "parameters", *batches]
        ].drop_duplicates(["architecture", "size"]),
        "Fine-tuning": arms.drop(columns="gflops").assign(
            petaflop=(arms["gflops"] / 1e6).map("{:.3g}".format),
            gpu_hours=arms["gpu_hours"].map("{:.3g}".format),
        ),
    }
    return "\n\n".join(
        (
            *(f"{title}\n{table.to_string(index=False)}" for title, table in tables.items()),
            f"Total: {human(totals['bytes'])} to fetch, {human(totals['chip_bytes'])} of chips, "
            f"{totals['gflops'] / 1e6:.4g} petaFLOP, {totals['gpu_hours']:.4g} GPU-hours, "
            f"{totals['wall_hours']:.4g} hours on {totals['gpus']} x {totals['card']}\n"
            f"Assumed: {totals['utilisation']:.0%} of {CARDS[totals['card']].peak_tflops:g} TFLOP/s bf16; cells side "
            "by side; archives whole, before cleaning and fractions; chips uncompressed",
        )
    )


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """One line per corpus and rung; repeats with other seeds are added up."""
    keys = ["corpus", "architecture", "size"]
    lines = table.groupby(keys, sort=False).agg(
        seeds=("seed", "size"),
        parameters=("parameters", "first"),
        chips=("chips", "first"),
        samples=("samples", "first"),
        epochs=("epochs", "first"),
        petaflop=("gflops_train", lambda column: f"{column.sum() / 1e6:.3g}"),
        gpu_hours=("gpu_hours", lambda column: f"{column.sum():.3g}"),
    )
    return lines.reset_index().assign(epochs=[f"{epochs:.3g}" for epochs in lines["epochs"]])
