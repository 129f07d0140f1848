"""A plan as text for a terminal: archives, rungs with their memory, the costliest lines, totals and assumptions."""

import pandas as pd

from geoladder.cost.cards import CARDS
from geoladder.cost.plan import Plan
from geoladder.data.fetch.plan import human


def describe(plan: Plan) -> str:
    """A plan in four short tables; the CSVs beside it have every line."""
    totals = plan.totals
    card = CARDS[totals["card"]]
    return "\n\n".join(
        (
            "Archives\n" + _text(_archives(plan.archives)),
            "Pretraining\n" + _text(_cells(plan.cells)),
            "Images that fit on one card, bf16-mixed; `shared`: weights shared by a cell's devices\n"
            + _text(_memory(plan.cells)),
            "Fine-tuning\n" + _text(_arms(plan.arms)),
            f"Total: {human(totals['bytes'])} to fetch, {human(totals['chip_bytes'])} of chips, "
            f"{totals['gflops'] / 1e6:.4g} petaFLOP, {totals['gpu_hours']:.4g} GPU-hours, "
            f"{totals['wall_hours']:.4g} hours on {totals['gpus']} x {totals['card']}\n"
            f"Assumed: {totals['utilisation']:.0%} of {card.peak_tflops:g} TFLOP/s bf16; cells side by side; "
            "archives whole, before cleaning and fractions; chips uncompressed",
        )
    )


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False)


def _archives(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="path").assign(
        bytes=table["bytes"].map(human), chip_bytes=table["chip_bytes"].map(human)
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


def _memory(table: pd.DataFrame) -> pd.DataFrame:
    columns = [
        "architecture",
        "size",
        "parameters",
        *(name for name in map(str, table) if name.startswith("batch_")),
    ]
    return table[columns].drop_duplicates(["architecture", "size"])


def _arms(table: pd.DataFrame) -> pd.DataFrame:
    petaflop = (table["gflops"] / 1e6).map("{:.3g}".format)
    hours = table["gpu_hours"].map("{:.3g}".format)
    return table.drop(columns="gflops").assign(petaflop=petaflop, gpu_hours=hours)
